//! The command `rstrace`: parses, runs, and maps to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use tracer_agent::{cli::Cli, command};

fn main() -> ExitCode {
    command::run(&Cli::parse())
}
