//! 50,000 upstream addresses: no more series than the cap allows, and no more memory for the second half than for the first.
//! Alone, because it fills the tables for everyone.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;
use rstrace_tests::scrape::{Scrape, get};

const OFFERED: u32 = 50_000;
/// Values of the label `upstream`, as docs/metrics.md has it, without `other`.
const CAP: usize = 2_000;
/// What a scrape of a full agent may be in bytes.
const PAGE: usize = 16 << 20;
/// What is free is given back at intervals of 20 s.
const GIVEN_BACK: Duration = Duration::from_secs(40);
/// What half of the addresses may add to the memory when the tables are full.
const NOISE_KB: u64 = 4_000;

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

#[test]
fn fifty_thousand_upstreams_take_no_more_than_their_places() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    // Full at half, as the tables are; by itself it grows up to 50,000 verdicts.
    let agent = Agent::start_with(&["--history", "5000"])?;
    let rest = agent.anonymous_kb()?;
    offer(&net, 0..OFFERED / 2)?;
    let half = all_counted(&agent, OFFERED / 2)?;
    let at_half = agent.anonymous_kb()?;
    offer(&net, OFFERED / 2..OFFERED)?;
    let full = all_counted(&agent, OFFERED)?;
    let mut at_end = agent.anonymous_kb()?;

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
    let [at_first, in_all] = [&half, &full].map(|scrape| scrape.samples.len());
    eprintln!(
        "{OFFERED} upstreams offered: {} are named in aborts, {in_all} samples ({at_first} at half), {} bytes in {took:?}; RssAnon \
         {rest} kB before, {at_half} kB at half, {at_end} kB at the end",
        named["rstrace_upstream_aborts_total"].len(),
        page.len(),
    );
    // What scrapes needed amid the storm is given back within 20 s.
    let flat = poll("memory that is flat", GIVEN_BACK, || {
        at_end = agent.anonymous_kb().ok()?;
        (at_end <= at_half + NOISE_KB).then_some(())
    });
    flat.with_context(|| format!("RssAnon {at_half} kB at half, {at_end} kB at the end"))
}
