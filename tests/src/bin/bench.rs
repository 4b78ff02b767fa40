//! `bench [--json] [--seconds N] [--pairs N] [CASE]`: measures what the agent costs and prints Markdown, or one JSON
//! object a line, of which the first says where and of what. Needs root and the Debian packages of
//! `bench-packages.txt`. `RSTRACE_BIN` names the agent.

#![expect(clippy::print_stdout, reason = "the tables are what it is for")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rstrace_tests::bench::holders::{HOLD, hold};
use rstrace_tests::bench::{About, CASES, Case, Options, Table, named, run};
use rstrace_tests::netns::require_root;
use serde_json::json;

struct Arguments {
    options: Options,
    as_json: bool,
    case: Option<&'static Case>,
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let started_with: Vec<_> = std::env::args().skip(1).collect();
    if let Some((HOLD, arguments)) = started_with.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return hold(arguments);
    }
    let Some(Arguments { options, as_json, case }) = arguments()? else { return Ok(()) };
    require_root()?;
    let about = About::gather()?;
    if as_json {
        println!(
            "{}",
            json!({ "about": about, "seconds": options.duration.as_secs(), "pairs": options.pairs })
        );
    } else {
        println!("{}", about.markdown());
    }
    run(case, &options, |case, table| show(case, table, as_json))
}

fn show(case: &str, table: &Table, as_json: bool) {
    if as_json {
        println!("{}", json!({ "case": case, "table": table }));
    } else {
        println!("{}", table.markdown());
    }
}

/// None when only help was asked for.
fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments { options: Options::default(), as_json: false, case: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let number = arguments.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
            number.with_context(|| format!("{argument} takes a number above 0"))
        };
        match argument.as_str() {
            "--json" => found.as_json = true,
            "--seconds" => found.options.duration = Duration::from_secs(number()?),
            "--pairs" => found.options.pairs = usize::try_from(number()?)?,
            "--help" | "-h" => {
                help();
                return Ok(None);
            }
            option if option.starts_with('-') => bail!("unknown option {option}"),
            name => found.case = Some(named(name)?),
        }
    }
    Ok(Some(found))
}

fn help() {
    println!("bench [--json] [--seconds N] [--pairs N] [CASE]\n\nCases:");
    for case in CASES {
        println!("  {:9} {}", case.name, case.about);
    }
}
