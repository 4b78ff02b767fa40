//! How much each program gives the kernel's verifier to do. It refuses one after a million steps, how many it takes
//! differs between kernels tenfold, and older ones take more.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::bpf;

use crate::results::Results;

/// Half of what the kernel allows (`BPF_COMPLEXITY_LIMIT_INSNS`): so much is left for the next kernel.
const MOST: u64 = 500_000;

/// Loads everything that there is, with all that is optional.
pub fn run(results: &mut Results) {
    results.take("no_program_is_near_the_verifiers_limit", || {
        let agent = Agent::watch(&["--with", "all"])?;
        let steps = steps(agent.pid())?;
        println!("steps of the verifier, by the number of the program: {steps:?}");
        let most = steps.values().max().context("no program")?;
        ensure!(*most <= MOST, "one took {most}, of {MOST} at most");
        Ok(())
    });
}

/// By the number of the program, as its descriptor's /proc/PID/fdinfo says them.
fn steps(pid: u32) -> Result<BTreeMap<u64, u64>> {
    let mut steps = BTreeMap::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        let figure = |key| bpf::figure(&text, key);
        if let (Some(program), Some(count)) = (figure("prog_id"), figure("verified_insns")) {
            steps.insert(program, count);
        }
    }
    Ok(steps)
}
