//! `cargo xtask bench`: measures what the agent costs and keeps up with, and writes it into `docs/performance.md`.

use std::fs;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{layout, markers, privilege, run, scenarios, setup};

/// Where results are kept, each case between markers of its own.
const PAGE: &str = "docs/performance.md";

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
    /// Write the tables into docs/performance.md
    #[arg(long, conflicts_with = "json")]
    write: bool,
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
    if arguments.write {
        return write(arguments);
    }
    let mut command = program(arguments, arguments.case.as_deref())?;
    let status = command.status().context("cannot run the bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn program(arguments: &BenchArgs, case: Option<&str>) -> Result<Command> {
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
    command.args(case);
    Ok(command)
}

/// Case by case, each written as soon as it is measured: a full run takes long, and may be broken off.
fn write(arguments: &BenchArgs) -> Result<ExitCode> {
    let path = layout::workspace().join(PAGE);
    let read = || fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"));
    let wanted = |name: &&str| arguments.case.as_ref().is_none_or(|case| *name == format!("bench {case}"));
    let text = read()?;
    let sections: Vec<_> = markers::names(&text, "bench ").into_iter().filter(wanted).collect();
    if sections.is_empty() {
        bail!("{PAGE} has no place for {}", arguments.case.as_deref().unwrap_or("anything"));
    }
    for section in sections {
        let case = section.trim_start_matches("bench ");
        let output = program(arguments, Some(case))?.stderr(Stdio::inherit()).output();
        let output = output.context("cannot run the bench")?;
        if !output.status.success() {
            return Ok(ExitCode::FAILURE);
        }
        std::io::stdout().write_all(&output.stdout)?;
        let tables = format!("\n{}\n", String::from_utf8_lossy(&output.stdout).trim());
        // Read again: the cases before have been written since.
        let text = markers::replaced(&read()?, section, &format!("{tables}\n"));
        let text = text.with_context(|| format!("{PAGE} has no end of {section}"))?;
        fs::write(&path, text).with_context(|| format!("cannot write {PAGE}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
