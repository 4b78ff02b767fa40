//! More than can be delivered: what is left out is counted and said, and takes nothing from anybody else.
//! Alone, because it fills the ring for everyone.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;
use rstrace_tests::scrape::Scrape;
use serde_json::Value;

/// Several times as much as the ring holds.
const FLOOD: u32 = 20_000;
const ABORTS: &str = "rstrace_upstream_aborts_total";

/// A namespace, and two addresses in it that refuse: of a noisy upstream and of a quiet one.
fn two_upstreams() -> Result<(Net, SocketAddr, SocketAddr)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let (noisy, quiet) = (net.free_upstream(), net.free_upstream());
    ensure!(noisy != quiet, "the same address twice");
    Ok((net, noisy, quiet))
}

fn about(upstream: SocketAddr) -> impl Fn(&Value) -> bool {
    let upstream = upstream.to_string();
    move |line| line["upstream"] == upstream.as_str()
}

fn aborts(scrape: &Scrape, upstream: SocketAddr) -> f64 {
    scrape.sum(ABORTS, &[("upstream", &upstream.to_string())])
}

/// Waits until the aborts of an upstream add up, and no longer.
fn add_up(agent: &Agent, upstream: SocketAddr, expected: u32) -> Result<Scrape> {
    let expected = f64::from(expected);
    let sum = poll("a sum of aborts that is right", Duration::from_secs(20), || {
        agent.scrape().ok().filter(|scrape| aborts(scrape, upstream) == expected)
    });
    sum.with_context(|| agent.scrape().map(|s| s.about(&upstream.to_string())).unwrap_or_default())
}

#[test]
fn a_full_ring_hides_no_other_upstreams_first_break() -> Result<()> {
    let (net, noisy, quiet) = two_upstreams()?;
    let mut agent = Agent::start(false)?;
    // An agent that is not scheduled: nothing leaves the ring.
    agent.signal(libc::SIGSTOP);
    let flood = dial_refused(net.gateway(), noisy, FLOOD);
    let single = dial_refused(net.gateway(), quiet, 1);
    agent.signal(libc::SIGCONT);
    flood?;
    single?;

    let shown = agent.wait_for("the quiet upstream", Duration::from_secs(10), about(quiet))?;
    ensure!(shown.json["cause"] == "no_listener", "{}", shown.json);
    let scrape = add_up(&agent, noisy, FLOOD)?;
    add_up(&agent, quiet, 1)?;
    let cause = |cause| scrape.sum(ABORTS, &[("upstream", &noisy.to_string()), ("cause", cause)]);
    let (judged, unclassified) = (cause("no_listener"), cause("unclassified"));
    ensure!(judged > 1000.0, "{judged} of {FLOOD} were judged");
    ensure!(unclassified > 1000.0, "the ring was never full: {unclassified} were not judged");
    let lost = scrape.sum("rstrace_events_lost_total", &[("stage", "ring")]);
    ensure!(lost >= unclassified, "{unclassified} were not judged, and {lost} lost");
    eprintln!(
        "{FLOOD} while the agent was stopped: {judged} judged, {unclassified} unclassified, {lost} lost"
    );
    Ok(())
}
