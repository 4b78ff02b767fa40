//! The past: what an agent has kept for whoever comes later.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::{Ended, run_within};
use serde_json::Value;

fn asked(agent: &Agent, arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.arg("watch").arg("--socket").arg(agent.socket()).args(arguments);
    run_within(&mut command, Duration::from_secs(20))
}

fn verdicts(ended: &Ended) -> Result<Vec<Value>> {
    ensure!(ended.code == Some(0), "{ended:?}");
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).context(line.to_owned()));
    let lines: Vec<Value> = lines.collect::<Result<_>>()?;
    ensure!(lines.first().is_some_and(|line| line["kind"] == "ready"), "{}", ended.stdout);
    Ok(lines.into_iter().filter(|line| line["kind"] == "verdict").collect())
}

#[test]
fn whoever_comes_later_sees_what_was_and_goes_on_with_what_comes() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let address = net.free_upstream();
    let upstream = address.to_string();
    let mut agent = Agent::start(false)?;
    dial_refused(net.gateway(), address, 3)?;
    let seen = std::cell::Cell::new(0);
    agent.wait_for("the third refusal", Duration::from_secs(20), |line| {
        seen.set(seen.get() + u32::from(line["upstream"] == upstream));
        seen.get() == 3
    })?;

    // --until lies in the past, so this ends by itself.
    let kept =
        verdicts(&asked(&agent, &["--json", "--since", "5m", "--until", "1us", "--upstream", &upstream])?)?;
    let live: Vec<&Value> =
        agent.seen().iter().map(|line| &line.json).filter(|line| line["upstream"] == upstream).collect();
    ensure!(kept.iter().collect::<Vec<_>>() == live, "{kept:#?} is not {live:#?}");
    let before = verdicts(&asked(&agent, &["--json", "--since", "10m", "--until", "5m"])?)?;
    ensure!(before.is_empty(), "{before:#?}");

    let ended = std::thread::scope(|scope| {
        let more = scope.spawn(|| dial_refused(net.gateway(), address, 3));
        let ended = asked(&agent, &["--json", "--since", "5m", "--upstream", &upstream, "--count", "6"]);
        more.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        ended
    })?;
    let all = verdicts(&ended)?;
    ensure!(all.len() == 6 && all[..3] == kept[..], "{all:#?}");
    Ok(())
}

#[test]
fn without_an_agent_there_is_no_past() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binary()?);
    command.args(["watch", "--since", "5m", "--socket"]).arg(folder.path().join("nobody.sock"));
    let ended = run_within(&mut command, Duration::from_secs(20))?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("no agent listens on"), "{ended:?}");
    ensure!(ended.stderr.trim_end().lines().count() == 1, "{ended:?}");
    Ok(())
}
