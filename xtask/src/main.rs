//! Every development task of rstrace: `cargo xtask <verb>`. `./dev` is the way in on a fresh machine.
//!
//! Tasks run as the user who calls them; `sudo` is put before the few commands that need root, and only if the
//! user is not root already.
#![expect(clippy::print_stdout, reason = "these are commands for a terminal")]

mod bench;
mod fuzz;
mod image;
mod layout;
mod lint;
mod markers;
mod outcome;
mod privilege;
mod qemu;
mod run;
mod scenarios;
mod setup;
mod test;
#[path = "../../tracer-agent/build/toolchain.rs"]
mod toolchain;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::outcome::Outcome;

/// rstrace's development tasks
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what the build needs and is missing: the BPF target's core library, bpf-linker
    Setup {
        /// And what the tests need: a real gateway, network tools, an emulator
        #[arg(long)]
        test: bool,
    },
    /// Build the agent with its kernel programs: target/release/rstrace
    Build,
    /// Build, then run rstrace with these arguments; without any, the agent with live verdicts
    #[command(disable_help_flag = true)]
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Run every check there is, or only the tests whose names contain a filter
    Test {
        filter: Option<String>,
    },
    /// Check formatting and lints, the kernel programs' included
    Lint,
    Image(image::ImageArgs),
    Fuzz(fuzz::FuzzArgs),
    Scenarios(scenarios::ScenarioArgs),
    Bench(bench::BenchArgs),
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let Arguments { verb } = Arguments::parse();
    let result = match verb {
        Verb::Setup { test } => setup::run(test).map(|()| ExitCode::SUCCESS),
        Verb::Build => run::build().map(|_| ExitCode::SUCCESS),
        Verb::Run { arguments } => run::run(&arguments),
        Verb::Test { filter } => test::run(filter.as_deref()).map(conclude),
        Verb::Lint => lint::run().map(conclude),
        Verb::Image(arguments) => image::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Scenarios(arguments) => scenarios::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Vm(arguments) => setup::run(false).and_then(|()| vm::run(&arguments)).map(conclude),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn conclude(outcome: Outcome) -> ExitCode {
    println!("{outcome}");
    if outcome.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
