//! `scale`: what grows with the number of connections, upstreams and processes, and what must not.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::daemon::{Daemon, Memory};
use super::faults::{Breaker, Fault};
use super::holders::{Connections, Processes, address};
use super::stats::Spread;
use super::{Cell, Options, Table};
use crate::agent::Agent;
use crate::client::dial_refused;
use crate::netns::{Family, Link, Net};

/// How long the first line may take, on a busy machine with everything to read.
const FIRST_LINE: Duration = Duration::from_secs(30);
/// Aborts a second while the agent's CPU is measured.
const RATE: u32 = 1000;
const SCRAPES: usize = 9;

/// What is there before the agent starts.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    connections: usize,
    upstreams: usize,
    processes: usize,
}

/// Raises one number after the other, then those of the goal together.
///
/// # Errors
/// When the agent or the stage cannot be set up.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    let mut table = Table::new(
        "Scale",
        &[
            "open connections",
            "upstreams",
            "processes with sockets",
            "first verdict, ms",
            "anonymous, kB",
            "file, kB",
            "shared, kB",
            "anonymous after the aborts, kB",
            "maps, kB",
            "scrape, ms",
            "scrape, kB",
            "CPU at 1,000 aborts/s, % of a core",
        ],
    );
    let rest = Load { upstreams: 1, ..Load::default() };
    let mut loads = vec![rest];
    loads.extend([1_000, 10_000, 100_000].map(|connections| Load { connections, ..rest }));
    loads.extend([100, 2_000, 20_000].map(|upstreams| Load { upstreams, ..rest }));
    loads.extend([10, 1_000, 10_000].map(|processes| Load { processes, ..rest }));
    loads.push(Load { connections: 100_000, upstreams: 2_000, processes: 0 });
    for load in loads {
        table.row(row(load, options)?);
    }
    table.note(format!(
        "Connections are over loopback and both of their ends are this host's, so there are twice as many sockets; \
         they and the processes are there before the agent starts. Upstreams are dialled once each, after it has \
         started. First verdict: from the start of the program to the line of a connect that was refused after \
         `ready`. The first connections of a new upstream and {} s of {RATE} refused connects a second lie between \
         the two columns of anonymous memory. Scrape: the median of {SCRAPES}. Goals: anonymous ≤ 12,000 kB at rest \
         and ≤ 40,000 with 100,000 connections and 2,000 upstreams; the first verdict within 1,000 ms with 100,000 \
         sockets; a scrape within 30 ms with 2,000 upstreams.",
        options.duration.as_secs()
    ));
    Ok(vec![table])
}

fn row(load: Load, options: &Options) -> Result<Vec<Cell>> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    net.gateway().enter(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "21000 65535"))??;
    let spread = if load.connections > 0 { load.upstreams } else { 0 };
    let _connections = Connections::open(net.gateway(), load.connections, spread)?;
    let _processes = Processes::fork(net.gateway(), load.processes)?;
    let first = first_verdict(&net)?;
    let daemon = Daemon::start()?;
    let rest = daemon.memory()?;
    dial_each(&net, load.upstreams)?;
    let breaker = Breaker::new(Fault::Refused, refusing(load.upstreams))?;
    let before = daemon.cpu()?;
    let began = Instant::now();
    net.gateway().enter(|| breaker.pace(RATE, options.duration))??;
    let cpu = (daemon.cpu()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    let scrapes: Vec<_> = (0..SCRAPES).map(|_| daemon.scraped()).collect::<Result<_>>()?;
    let took = Spread::of(scrapes.iter().map(|(took, _)| took.as_secs_f64() * 1e3));
    let bytes = scrapes.last().map_or(0, |(_, bytes)| *bytes);
    let Memory { anonymous, file, shared } = rest;
    let kilobytes = |bytes: u64| Cell::number(bytes as f64, 0);
    Ok(vec![
        Cell::number(load.connections as f64, 0),
        Cell::number(load.upstreams as f64, 0),
        Cell::number(load.processes as f64, 0),
        Cell::number(first.as_secs_f64() * 1e3, 0),
        kilobytes(anonymous),
        kilobytes(file),
        kilobytes(shared),
        kilobytes(daemon.memory()?.anonymous),
        kilobytes(daemon.map_bytes()? / 1024),
        took.median_cell(1),
        kilobytes(bytes as u64 / 1024),
        Cell::number(100.0 * cpu, 1),
    ])
}

/// From the start of the program to the line of the first connect that it can have seen.
fn first_verdict(net: &Net) -> Result<Duration> {
    let began = Instant::now();
    let mut agent = Agent::start(false)?;
    let upstream = net.free_upstream();
    dial_refused(net.gateway(), upstream, 1)?;
    agent.wait_for("the first refusal", FIRST_LINE, |line| line["upstream"] == upstream.to_string())?;
    Ok(began.elapsed())
}

/// Addresses at which nobody listens, whatever else is held.
fn refusing(number: usize) -> std::net::SocketAddr {
    let mut address = address(number);
    address.set_port(address.port() + 1);
    address
}

fn dial_each(net: &Net, upstreams: usize) -> Result<()> {
    net.gateway().enter(|| {
        for number in 0..upstreams {
            ensure!(TcpStream::connect(refusing(number)).is_err(), "somebody listens where nobody should");
        }
        Ok(())
    })?
}
