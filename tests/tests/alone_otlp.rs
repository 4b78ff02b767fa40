//! A collector that is not there. Alone, because the breaks that fill the exporter's queue fill all others' too.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use rstrace_tests::agent::{Agent, free_port};
use rstrace_tests::netns::{Family, Link, Net, require_root, unique_port};
use rstrace_tests::process::poll;

/// Connections that break while nobody takes the logs: more than wait in the queue and in the request under way.
const BREAKS: u16 = 6000;
/// What the agent may hold more then, in kB of anonymous memory: the queue, the history, and its tables.
const MORE_KB: u64 = 60_000;

#[test]
fn with_a_dead_collector_verdicts_go_on_and_what_is_left_out_is_counted() -> Result<()> {
    require_root()?;
    let net = Net::create(Link::Loopback, Family::V4)?;
    let url = format!("http://{}", free_port()?);
    let mut agent = Agent::start_with(&["--otlp", &url])?;
    let before = agent.anonymous_kb()?;
    let port = unique_port();
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, 9, high, low), port))
    };
    // Each address is refused once: no two verdicts are alike.
    let refused = |numbers: std::ops::Range<u16>| -> Result<()> {
        net.gateway().enter(|| {
            for address in numbers.map(address) {
                ensure!(TcpStream::connect(address).is_err(), "{address} answered");
            }
            Ok(())
        })?
    };
    refused(0..BREAKS)?;
    let mut dropped = 0.0;
    poll("a count of what was left out", Duration::from_secs(20), || {
        dropped = agent.scrape().ok()?.sum("rstrace_events_dropped_total", &[("sink", "otlp")]);
        (dropped > 0.0).then_some(())
    })?;
    // The live stream goes on.
    agent.read_for(Duration::from_secs(1))?;
    refused(BREAKS..BREAKS + 1)?;
    let last = address(BREAKS).to_string();
    agent.wait_for(&last, Duration::from_secs(20), |line| line["upstream"] == last.as_str())?;
    let more = agent.anonymous_kb()?.saturating_sub(before);
    eprintln!("with a dead collector: {dropped} dropped, {more} kB more than before");
    ensure!(more < MORE_KB, "{more} kB more than before");
    agent.logs("the collector takes no logs")?;
    agent.signal(libc::SIGTERM);
    let status = agent.wait(Duration::from_secs(10))?;
    ensure!(status.code() == Some(0), "ended with {status}");
    Ok(())
}
