//! 150,000 upstream addresses: no more series than the cap allows, and no more memory for the last than for the first.
//! Alone, because it fills the tables for everyone.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;
use rstrace_tests::scrape::{Scrape, get};

/// Values of the label `upstream`, as docs/metrics.md has it, without `other`.
const CAP: usize = 2_000;
/// What a scrape of a full agent may be in bytes.
const PAGE: usize = 16 << 20;
/// New addresses in each round.
const EACH: u32 = 25_000;
/// What three rounds may add to the memory when the tables are full: 27 bytes an address.
const NOISE_KB: u64 = 2_000;
/// What an answer needs amid a storm lies between what verdicts need then, and up to 8 MB stay in use when both are gone: once,
/// in whichever round the two meet, and what is kept of each address could hide in them for some rounds more.
const ROUNDS: u32 = 6;
/// By then it has to be flat.
const MOST_ROUNDS: u32 = 9;

/// Dials each address once, none of which listens.
fn offer(net: &Net, numbers: std::ops::Range<u32>) -> Result<()> {
    net.gateway().enter(|| {
        for number in numbers {
            // 127.1.0.0 and up.
            let address = Ipv4Addr::from_bits(0x7f01_0000 + number);
            let dialled = TcpStream::connect(SocketAddr::from((address, 9)));
            let refused = dialled.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            ensure!(refused, "{address} did not refuse: {dialled:?}");
        }
        Ok(())
    })?
}

/// How many upstreams the samples of each metric name.
fn upstreams(scrape: &Scrape) -> BTreeMap<&str, HashSet<&str>> {
    let mut named: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for sample in &scrape.samples {
        if let Some(upstream) = sample.label("upstream") {
            named.entry(&sample.name).or_default().insert(upstream);
        }
    }
    named
}

/// Waits until everything that was offered is counted and judged.
fn all_counted(agent: &Agent, offered: u32) -> Result<Scrape> {
    let (aborts, connections) = ("rstrace_upstream_aborts_total", "rstrace_upstream_connections_total");
    let refused = [("outcome", "refused")];
    let done = poll("every connect to be counted and judged", Duration::from_secs(60), || {
        let scrape = agent.scrape().ok()?;
        let sums = [scrape.sum(aborts, &[]), scrape.sum(connections, &refused)];
        sums.iter().all(|sum| *sum >= f64::from(offered)).then_some(scrape)
    });
    done.with_context(|| match agent.scrape() {
        Ok(scrape) => {
            format!("{} aborts, {} refused", scrape.sum(aborts, &[]), scrape.sum(connections, &refused))
        }
        Err(error) => format!("{error:#}"),
    })
}

/// Dials each address once, while the agent is asked again and again until all is counted.
fn storm(net: &Net, agent: &Agent, numbers: std::ops::Range<u32>) -> Result<Scrape> {
    let offered = numbers.end;
    thread::scope(|scope| {
        let dials = scope.spawn(|| offer(net, numbers));
        let counted = all_counted(agent, offered);
        dials.join().map_err(|_| anyhow!("the thread that dials panicked"))??;
        counted
    })
}

#[test]
fn more_upstreams_take_no_more_than_their_places() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    // Full after the first round, as the tables are; by itself it grows up to 50,000 verdicts.
    let agent = Agent::start_with(&["--history", "5000"])?;
    let rest = agent.anonymous_kb()?;
    let mut full = storm(&net, &agent, 0..EACH)?;
    let at_first = full.samples.len();
    let mut grown = vec![agent.anonymous_kb()?];
    for round in 1..MOST_ROUNDS {
        if round >= ROUNDS && is_flat(&grown) {
            break;
        }
        full = storm(&net, &agent, round * EACH..(round + 1) * EACH)?;
        grown.push(agent.anonymous_kb()?);
    }
    let offered = grown.len() as u32 * EACH;

    let named = upstreams(&full);
    ensure!(named.len() > 2, "metrics with upstreams: {:?}", named.keys());
    for (metric, values) in &named {
        let named = values.iter().filter(|value| **value != "other").count();
        ensure!(named <= CAP, "{metric} names {named} upstreams");
        // Or nothing would have been at its limit.
        ensure!(
            *metric != "rstrace_upstream_aborts_total" || values.contains("other"),
            "{metric} has no `other`"
        );
    }
    let overflow = full.sum("rstrace_label_overflow_total", &[("label", "upstream")]);
    ensure!(overflow > 0.0, "no upstream was said to be without a place");
    let began = Instant::now();
    let (_, page) = get(agent.listen(), "/metrics")?;
    let took = began.elapsed();
    ensure!(page.len() <= PAGE, "a scrape of {} bytes", page.len());
    let in_all = full.samples.len();
    eprintln!(
        "{offered} upstreams offered: {} are named in aborts, {in_all} samples ({at_first} at {EACH}), {} bytes in {took:?}; \
         RssAnon {rest} kB before, after each {EACH} {grown:?} kB",
        named["rstrace_upstream_aborts_total"].len(),
        page.len(),
    );
    ensure!(is_flat(&grown), "memory grows with the number of upstreams: {grown:?} kB after each {EACH}");
    Ok(())
}

/// The last three rounds have added next to nothing.
fn is_flat(grown: &[u64]) -> bool {
    matches!(grown, [.., before, _, _, last] if *last <= before + NOISE_KB)
}
