//! `scoreboard [--vantage host|gateway] [--json] [--jobs N] [FILTER]`: plays the cases of the scoreboard and prints a
//! table, or one JSON object a line. Needs root. Exit code 1 if anything is wrong. What failed, and how many, is said
//! at the end as Rust's test harness says it, one test for each case and watcher.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rstrace_tests::board::expected::Vantage;
use rstrace_tests::board::{Options, Outcome, run};
use rstrace_tests::netns::require_root;
use serde_json::json;

/// On two cores the cases mostly wait; more at once only delay each other.
const JOBS: usize = 3;

fn main() -> ExitCode {
    match play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<bool> {
    let (options, as_json) = arguments()?;
    require_root()?;
    let outcomes = run(&options, |outcome| {
        if as_json {
            println!("{}", object(outcome));
        }
    })?;
    if as_json {
        println!("{}", totals(&outcomes));
    } else {
        print_table(&outcomes);
        print_gaps(&outcomes);
    }
    Ok(say_what_failed(&outcomes, as_json))
}

fn say_what_failed(outcomes: &[Outcome], as_json: bool) -> bool {
    let failed: Vec<_> =
        outcomes.iter().filter_map(|outcome| Some((outcome, outcome.error.as_ref()?))).collect();
    let name = |outcome: &Outcome| format!("{}/{} ({})", outcome.group, outcome.case, outcome.vantage.name());
    for (outcome, _) in &failed {
        eprintln!("test {} ... FAILED", name(outcome));
    }
    if !failed.is_empty() {
        eprintln!("\nfailures:\n");
    }
    for (outcome, error) in &failed {
        eprintln!("---- {} ----\n{error}\n", name(outcome));
    }
    if !as_json {
        let passed = outcomes.len() - failed.len();
        let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
        println!("\ntest result: {verdict}. {passed} passed; {} failed", failed.len());
    }
    failed.is_empty()
}

fn arguments() -> Result<(Options, bool)> {
    let mut options = Options { filter: None, vantage: None, jobs: JOBS };
    let mut as_json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => as_json = true,
            "--vantage" => {
                options.vantage = match arguments.next().as_deref() {
                    Some("host") => Some(Vantage::Host),
                    Some("gateway") => Some(Vantage::Gateway),
                    other => bail!("--vantage takes host or gateway, not {other:?}"),
                }
            }
            "--jobs" => {
                let jobs = arguments.next().and_then(|text| text.parse().ok());
                options.jobs = jobs.filter(|jobs| *jobs > 0).context("--jobs takes a number above 0")?;
            }
            option if option.starts_with('-') => bail!("unknown option {option}"),
            filter => options.filter = Some(filter.to_owned()),
        }
    }
    Ok((options, as_json))
}

fn object(outcome: &Outcome) -> serde_json::Value {
    let Outcome { group, case, vantage, expected, got, lines, gaps, error, seconds } = outcome;
    json!({
        "group": group, "scenario": case, "vantage": vantage.name(), "expected": expected, "got": got,
        "right": error.is_none(), "error": error, "seconds": (seconds * 10.0).round() / 10.0, "lines": lines, "gaps": gaps,
    })
}

fn totals(outcomes: &[Outcome]) -> serde_json::Value {
    let right = outcomes.iter().filter(|outcome| outcome.error.is_none()).count();
    json!({
        "right": right, "wrong": outcomes.len() - right,
        "by": counts(outcomes, "by"), "cause": counts(outcomes, "cause"),
    })
}

/// How many lines have each value of a key.
fn counts(outcomes: &[Outcome], key: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in outcomes.iter().flat_map(|outcome| &outcome.lines) {
        *counts.entry(line[key].as_str().unwrap_or("?").to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Where the kernel's own counters and what was seen differ, and nothing explains it. Said, and no failure of a case.
fn print_gaps(outcomes: &[Outcome]) {
    let with_gaps: Vec<_> = outcomes.iter().filter(|outcome| !outcome.gaps.is_empty()).collect();
    println!("\ncounters of the kernel with a gap that nothing explains: {} cases", with_gaps.len());
    for Outcome { group, case, gaps, .. } in with_gaps {
        println!("{group}/{case}: {}", gaps.join(", "));
    }
}

fn print_table(outcomes: &[Outcome]) {
    println!("| scenario | vantage | expected | got | | seconds |");
    println!("|---|---|---|---|---|---|");
    for outcome in outcomes {
        let Outcome { group, case, vantage, expected, got, error, seconds, .. } = outcome;
        let mark = if error.is_none() { "right" } else { "WRONG" };
        println!("| {group}/{case} | {} | {expected} | {got} | {mark} | {seconds:.1} |", vantage.name());
    }
    for key in ["by", "cause"] {
        let counts = counts(outcomes, key);
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("\n{key}: {}", counts.join(", "));
    }
}
