//! The plan for a kernel that is too old: rstrace says so in one line, and does nothing else.

use std::process::Command;

use anyhow::{Result, ensure};
use rstrace_tests::process::run_within;

use crate::results::Results;
use crate::upstream::PATIENCE;

/// The exit code for what the kernel does not support.
const UNSUPPORTED: i32 = 3;

/// Runs the whole plan.
pub fn run(results: &mut Results) {
    results.take("watch_refuses", || refuses(&["watch", "--json", "--all"]));
    results.take("agent_refuses", || refuses(&["agent"]));
}

fn refuses(arguments: &[&str]) -> Result<()> {
    let ended = run_within(Command::new("/bin/rstrace").args(arguments), PATIENCE)?;
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [line] = lines[..] else { anyhow::bail!("not one line on stderr: {lines:?}") };
    println!("rstrace: {line}");
    ensure!(ended.code == Some(UNSUPPORTED), "exit code {:?}, not {UNSUPPORTED}: {line}", ended.code);
    ensure!(ended.stdout.is_empty(), "stdout is not empty: {:?}", ended.stdout);
    for word in ["kernel 5.10", "socket storage"] {
        ensure!(line.contains(word), "{line:?} does not name {word:?}");
    }
    Ok(())
}
