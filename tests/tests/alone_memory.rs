//! The agent's memory at rest. Alone, because what other tests break fills its tables.

use std::time::Duration;

use anyhow::Result;
use rstrace_tests::agent::Agent;
use rstrace_tests::process::poll;

const LIMIT_KB: u64 = 30_000;

#[test]
fn the_agent_at_rest_is_small() -> Result<()> {
    let agent = Agent::start(false)?;
    agent.scrape()?;
    let mut last = 0;
    // What loading needed may take a moment to be given back.
    let small = poll(&format!("VmRSS below {LIMIT_KB} kB"), Duration::from_secs(5), || {
        last = agent.resident_kb().ok()?;
        (last < LIMIT_KB).then_some(())
    });
    eprintln!("VmRSS at rest: {last} kB");
    small
}
