//! How long a verdict takes from before the fault to the reader of the line. Alone, because it
//! measures time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::scene::{Plan, play};

const ROUNDS: usize = 11;
const LIMIT: Duration = Duration::from_millis(300);

/// The two are not alone beside each other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_refused_connection_is_shown_in_time() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let net = Net::create(Link::Loopback, Family::V4)?;
    let address = net.free_upstream();
    let mut agent = Agent::start(false)?;
    let rounds = (0..ROUNDS).map(|_| {
        agent.forget();
        let before = SystemTime::now();
        dial_refused(net.gateway(), address, 1)?;
        let wanted = |line: &serde_json::Value| line["upstream"] == address.to_string();
        let line = agent.wait_for("the refusal", Duration::from_secs(20), wanted)?;
        Ok(line.at.duration_since(before)?)
    });
    in_time("a refused connection", rounds.collect::<Result<_>>()?)
}

/// The one cause for which the agent must wait for the other side's story.
#[test]
fn a_lost_request_is_shown_in_time() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    play(Link::Veth, Family::V4, &Plan::default(), |scene| {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            scene.agent()?.forget();
            let before = SystemTime::now();
            scene.demand("/fin", 502)?;
            let line = scene.wait_for_verdict(Duration::from_secs(20))?;
            rounds.push(line.at.duration_since(before)?);
        }
        in_time("a lost request", rounds)
    })
}

fn in_time(what: &str, mut rounds: Vec<Duration>) -> Result<()> {
    rounds.sort_unstable();
    let median = rounds.get(ROUNDS / 2).copied().context("no rounds")?;
    eprintln!("{what}: median {median:?}, all {rounds:?}");
    ensure!(median < LIMIT, "{what} took {median:?} to be shown");
    Ok(())
}
