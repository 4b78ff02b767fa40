//! The plan for a kernel that is supported: every fault once, connections older than the agent, every way to see a
//! FIN, and steps of the clock.
//!
//! One `rstrace watch` sees all the faults; each has an upstream address of its own, by which its
//! line is found, and in the end each address must have had exactly one line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::capabilities::{THREE, rstrace_with};
use rstrace_tests::process::run_within;
use rstrace_tests::scenario::Scenario;
use serde_json::{Value, json};

use crate::clock;
use crate::dns;
use crate::expect;
use crate::fault::{Cast, Fault, Older};
use crate::fins;
use crate::results::Results;
use crate::upstream::PATIENCE;
use crate::verifier;

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// On an ordinary machine a verdict is there within 300 ms; this one emulates its processor. Should
/// none come at all, the plan must still reach its end before the machine is given up.
pub const VERDICT: Duration = Duration::from_secs(20);
/// The agent's settle window is 200 ms: a second line of a connection would have come by then.
const SETTLE: Duration = Duration::from_secs(2);

/// Names of the fixtures, and how each is brought about.
pub const FAULTS: [(&str, IpAddr, Fault); 12] = [
    ("no_listener", V4, Fault::NobodyListens),
    ("no_listener", V6, Fault::NobodyListens),
    ("closed_without_response", V4, Fault::Request("/fin")),
    ("closed_without_response", V6, Fault::Request("/fin")),
    ("reset_without_response", V4, Fault::Request("/reset")),
    ("closed_unread_data", V4, Fault::ClosedUnread),
    ("reset_mid_response", V4, Fault::Request("/partial-reset")),
    ("process_killed", V4, Fault::Killed),
    ("process_exited", V4, Fault::Request("/exit/3")),
    ("process_crashed", V4, Fault::Request("/segv")),
    ("oom_killed", V4, Fault::OutOfMemory),
    ("graceful", V4, Fault::Request("/until-close")),
];

/// Runs the whole plan.
pub fn run(results: &mut Results) {
    let mut address = addresses();
    verifier::run(results);
    results.take("doctor_names_the_fin_hook", fin_hook);
    all_faults(results, &mut address, &FAULTS);
    dns::run(results);
    fins::run(results, || address(V4));
    clock::run(results, || address(V4));
}

/// An address of its own for each fault.
pub fn addresses() -> impl FnMut(IpAddr) -> SocketAddr {
    let mut port = 9000;
    move |ip| {
        port += 1;
        SocketAddr::new(ip, port)
    }
}

/// Brings these faults about, each once, and breaks connections that are older than the agent.
pub fn all_faults(
    results: &mut Results,
    address: &mut impl FnMut(IpAddr) -> SocketAddr,
    faults: &[(&'static str, IpAddr, Fault)],
) {
    let mut older = None;
    results.take("connections_before_the_agent", || {
        older = Some((Older::open(address(V4))?, Older::open(address(V4))?));
        Ok(())
    });
    let mut agent = None;
    results.take("watch_is_ready", || {
        // Root with no more than the three capabilities, so that each kernel shows that they suffice.
        agent = Some(Agent::watch_as(rstrace_with(THREE)?, &["--all"])?);
        Ok(())
    });
    if let Some(mut agent) = agent {
        watched(results, &mut agent, address, older, faults);
    }
}

/// Everything that one agent watches.
fn watched(
    results: &mut Results,
    agent: &mut Agent,
    address: &mut impl FnMut(IpAddr) -> SocketAddr,
    older: Option<(Older, Older)>,
    faults: &[(&'static str, IpAddr, Fault)],
) {
    let mut upstreams = Vec::new();
    for &(name, ip, fault) in faults {
        let address = address(ip);
        upstreams.push(address);
        let family = if ip == V6 { "_ipv6" } else { "" };
        results
            .take(&format!("{name}{family}"), || judge(agent, name, address, || fault.bring_about(address)));
    }
    if let Some((read, unread)) = older {
        upstreams.extend([read.address(), unread.address()]);
        results.take("older_answered_since", || {
            judge(agent, "closed_without_response", read.address(), || read.answered_then_closed())
        });
        results.take("older_never_read_since", || never_read_since(agent, unread));
    }
    results.take("one_line_for_each", || {
        agent.read_for(SETTLE)?;
        upstreams.iter().try_for_each(|address| one_line(agent, *address))
    });
    for line in agent.stderr().lines() {
        println!("rstrace: {line}");
    }
}

/// Brings a fault about and demands the verdict that the fixture of this name states.
fn judge(
    agent: &mut Agent,
    name: &'static str,
    address: SocketAddr,
    bring_about: impl FnOnce() -> Result<Cast>,
) -> Result<()> {
    let cast = bring_about()?;
    let line = verdict(agent, address)?;
    expect::as_the_fixture_says(&line, &Scenario::named(name)?, &cast).with_context(|| line.to_string())
}

/// The request was sent before the agent's eyes, but no answer was ever read before them.
fn never_read_since(agent: &mut Agent, older: Older) -> Result<()> {
    let address = older.address();
    let cast = older.closed()?;
    let line = verdict(agent, address)?;
    expect::of_an_older_connection(&line, &cast).with_context(|| line.to_string())
}

fn verdict(agent: &mut Agent, address: SocketAddr) -> Result<Value> {
    let found = agent.wait_for(&address.to_string(), VERDICT, |line| is_about(line, address));
    Ok(found.with_context(|| format!("stderr: {}", agent.stderr()))?.json)
}

fn one_line(agent: &Agent, address: SocketAddr) -> Result<()> {
    let lines: Vec<&Value> =
        agent.seen().iter().map(|line| &line.json).filter(|line| is_about(line, address)).collect();
    ensure!(lines.len() == 1, "{} lines about {address}: {}", lines.len(), json!(lines));
    Ok(())
}

/// As upstream of one end, or as listener of the other.
pub fn is_about(line: &Value, address: SocketAddr) -> bool {
    let address = address.to_string();
    line["kind"] == "verdict" && (line["upstream"] == address || line["listener"] == address)
}

/// Demands that `doctor` says how tcp_fin is attached.
fn fin_hook() -> Result<()> {
    let doctor = run_within(Command::new("/bin/rstrace").arg("doctor"), PATIENCE)?;
    println!("{}{}", doctor.stdout, doctor.stderr);
    let line =
        doctor.stdout.lines().find(|line| line.contains("tcp_fin")).context("doctor is silent on tcp_fin")?;
    let says = |way: &str| line.split_whitespace().any(|word| word == way);
    ensure!(says("attached") && (says("fentry") || says("kprobe")), "{line:?}: names no way to attach");
    Ok(())
}
