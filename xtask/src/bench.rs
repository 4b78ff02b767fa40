//! `cargo xtask bench`: measures what the agent costs and keeps up with.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{layout, privilege, run, scenarios, setup};

/// Measure what the agent costs, and what it keeps up with
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// One JSON object a line: where and of what, then each table
    #[arg(long)]
    json: bool,
    /// How long each single measurement lasts
    #[arg(long)]
    seconds: Option<u32>,
    /// Pairs that are compared, or rounds
    #[arg(long)]
    pairs: Option<u32>,
    /// Only this case; `--help` of target/release/bench lists them
    case: Option<String>,
}

/// Builds what is needed and measures.
///
/// # Errors
/// When something cannot be set up, built or started; that a case cannot be measured is an exit code.
pub fn run(arguments: &BenchArgs) -> Result<ExitCode> {
    setup::run(false)?;
    setup::for_bench()?;
    run::build()?;
    scenarios::build()?;
    let program = layout::rstrace().with_file_name("bench");
    let mut command = privilege::as_root_with(program, &[("RSTRACE_BIN", layout::rstrace())])?;
    for (option, value) in [("--seconds", arguments.seconds), ("--pairs", arguments.pairs)] {
        if let Some(value) = value {
            command.args([option, &value.to_string()]);
        }
    }
    if arguments.json {
        command.arg("--json");
    }
    command.args(&arguments.case);
    let status = command.status().context("cannot run the bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
