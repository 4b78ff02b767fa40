//! `flood`: more ended connections than anybody can read, as fast as the cores make them. Is every one counted, how
//! many are judged, and what does it cost the agent?

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::daemon::Daemon;
use super::faults::{Breaker, Fault};
use super::{Cell, Options, Table, rps};
use crate::netns::{Family, Link, Namespace, Net};
use crate::process::poll;
use crate::scrape::Scrape;

/// What the ring still holds at the end, and what waits for its story.
const DRAINED: Duration = Duration::from_secs(20);
const ABORTS: &str = "rstrace_upstream_aborts_total";

/// One flood, and what the agent made of it.
struct Flooded {
    offered: f64,
    took: Duration,
    counted: f64,
    judged: f64,
    unclassified: f64,
    lost: Vec<(String, f64)>,
    cpu: Duration,
}

/// Measures every flood, without and with RPS on the loopback device.
///
/// # Errors
/// When the agent or the stage cannot be set up, or a fault is not what it should be.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    let cores = std::thread::available_parallelism()?.get();
    let mut tables = Vec::new();
    for by_rps in [false, true] {
        let title = if by_rps { "Flood, with RPS on loopback" } else { "Flood" };
        let mut table = Table::new(
            title,
            &[
                "fault",
                "threads",
                "offered",
                "a second",
                "counted",
                "judged",
                "`unclassified`",
                "missing",
                "lost",
                "agent CPU, % of a core",
                "µs each",
            ],
        );
        for fault in [Fault::Refused, Fault::Unread, Fault::Linger] {
            for threads in [1, cores] {
                let flooded = flood(fault, threads, by_rps, options.duration)?;
                table.row(row(fault, threads, &flooded));
            }
        }
        table.note(note(by_rps, options.duration));
        tables.push(table);
    }
    Ok(tables)
}

fn note(by_rps: bool, duration: Duration) -> String {
    let rps = if by_rps {
        "Segments are handed to both cores by RPS, so softirqs interrupt the programs as on a real card. "
    } else {
        ""
    };
    format!(
        "{rps}{} s each, over loopback, both ends on this host, nobody watches. Missing: offered and neither judged \
         nor `unclassified`. Lost: `rstrace_events_lost_total` by stage. Goal: of refused connects by one thread \
         every one counted, 0 lost, ≤ 30 % of a core.",
        duration.as_secs()
    )
}

fn row(fault: Fault, threads: usize, flooded: &Flooded) -> Vec<Cell> {
    let Flooded { offered, took, counted, judged, unclassified, lost, cpu } = flooded;
    let lost: Vec<_> = lost.iter().map(|(stage, count)| format!("{stage} {count}")).collect();
    vec![
        fault.name().into(),
        Cell::number(threads as f64, 0),
        Cell::number(*offered, 0),
        Cell::number(offered / took.as_secs_f64(), 0),
        Cell::number(*counted, 0),
        Cell::number(*judged, 0),
        Cell::number(*unclassified, 0),
        Cell::number(offered - judged - unclassified, 0),
        if lost.is_empty() { "0".into() } else { lost.join(", ").into() },
        Cell::number(100.0 * cpu.as_secs_f64() / took.as_secs_f64(), 0),
        Cell::number(cpu.as_secs_f64() * 1e6 / offered, 2),
    ]
}

fn flood(fault: Fault, threads: usize, by_rps: bool, duration: Duration) -> Result<Flooded> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    // Below the upstreams' own: a socket that connects to its own port is not refused.
    net.gateway().enter(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 9999"))??;
    if by_rps {
        rps::switch_on(net.gateway())?;
    }
    let daemon = Daemon::start()?;
    let upstreams: Vec<_> = (0..threads).map(|_| net.free_upstream()).collect();
    let before = daemon.cpu()?;
    let began = Instant::now();
    let offered = offer(fault, net.gateway(), &upstreams, duration)? as f64;
    let took = began.elapsed();
    let sum = |scrape: &Scrape, name: &str, label: Option<(&str, &str)>| -> f64 {
        let of = |upstream: &SocketAddr| {
            let upstream = upstream.to_string();
            let labels: Vec<_> = [("upstream", &*upstream)].into_iter().chain(label).collect();
            scrape.sum(name, &labels)
        };
        upstreams.iter().map(of).sum()
    };
    // What is still missing then is shown, and no error.
    let _ = poll("the last verdict", DRAINED, || {
        (sum(&daemon.scrape().ok()?, ABORTS, None) >= offered).then_some(())
    });
    let scrape = daemon.scrape()?;
    let (metric, label) = fault.counted();
    let unclassified = sum(&scrape, ABORTS, Some(("cause", "unclassified")));
    let lost = scrape.matching("rstrace_events_lost_total", &[]).filter(|sample| sample.value > 0.0);
    let stage = |sample: &crate::scrape::Sample| sample.label("stage").unwrap_or_default().to_owned();
    Ok(Flooded {
        offered,
        took,
        counted: sum(&scrape, metric, Some(label)),
        judged: sum(&scrape, ABORTS, None) - unclassified,
        unclassified,
        lost: lost.map(|sample| (stage(sample), sample.value)).collect(),
        cpu: daemon.cpu()? - before,
    })
}

/// Does it over and over, one thread for each upstream, and says how often.
fn offer(fault: Fault, namespace: &Namespace, upstreams: &[SocketAddr], duration: Duration) -> Result<u64> {
    std::thread::scope(|scope| {
        let work = |upstream: SocketAddr| {
            move || namespace.enter(|| Breaker::new(fault, upstream)?.flood(duration))?
        };
        let threads: Vec<_> = upstreams.iter().map(|upstream| scope.spawn(work(*upstream))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked"))).sum()
    })
}
