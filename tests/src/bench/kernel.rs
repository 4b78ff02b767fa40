//! `kernel`: runs and nanoseconds of each program for each proxied request, over all four of its sockets.

use std::collections::BTreeMap;

use anyhow::Result;

use super::load::{Stage, Upstream};
use super::programs::{self, Run, Runs, Timed};
use super::stats::Spread;
use super::{Cell, Options, Table};
use crate::agent::Agent;

/// Programs that run less often than once in so many requests are not shown one by one.
const SHOWN: f64 = 0.01;

/// Measures both kinds of upstream connections.
///
/// # Errors
/// When the agent or the stage cannot be set up.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    let mut sums = Table::new(
        "Kernel: time in programs per proxied request",
        &["upstream", "ns per request, median", "spread", "goal", "stretch", "runs per request"],
    );
    let mut tables = Vec::new();
    for (upstream, goal, stretch) in [(Upstream::New, "≤ 1,500", "900"), (Upstream::Kept, "≤ 300", "230")]
    {
        let rounds = rounds(upstream, options)?;
        let total = |of: fn(&Run) -> f64| Spread::of(rounds.iter().map(|runs| runs.values().map(of).sum()));
        let time = total(|run| run.nanoseconds);
        sums.row([
            upstream.name().into(),
            time.median_cell(0),
            time.spread_cell(0),
            goal.into(),
            stretch.into(),
            total(|run| run.runs).median_cell(2),
        ]);
        tables.push(programs_table(upstream, &rounds));
    }
    sums.note(format!(
        "All four sockets of a request are on this host, over loopback. Times are the kernel's (`run_time_ns`), what \
         timing costs included. Spread: middle half (least–most) of {} rounds of {} s.",
        options.pairs,
        options.duration.as_secs()
    ));
    tables.insert(0, sums);
    Ok(tables)
}

/// What each program did per request, round by round.
fn rounds(upstream: Upstream, options: &Options) -> Result<Vec<Runs>> {
    let stage = Stage::set(upstream, 2)?;
    let agent = Agent::start_with(&[])?;
    let _timed = Timed::start()?;
    let round = || {
        let before = programs::of_agent(&agent.scrape()?);
        let done = stage.load(options.duration)?;
        stage.settle()?;
        let after = programs::of_agent(&agent.scrape()?);
        Ok(programs::per_request(&before, &after, done.requests))
    };
    // The first fills caches, pools and tables.
    stage.load(options.duration.min(std::time::Duration::from_secs(1)))?;
    (0..options.pairs).map(|_| round()).collect()
}

fn programs_table(upstream: Upstream, rounds: &[Runs]) -> Table {
    let title = format!("Kernel: programs, {}", upstream.name());
    let mut table =
        Table::new(title, &["program", "runs per request", "ns per run", "ns per request", "spread"]);
    let mut programs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    for (name, run) in rounds.iter().flatten() {
        programs.entry(name).or_default().push(*run);
    }
    let mut rows: Vec<_> = programs
        .iter()
        .map(|(name, all)| {
            let runs = Spread::of(all.iter().map(|run| run.runs));
            let time = Spread::of(all.iter().map(|run| run.nanoseconds));
            let each =
                Spread::of(all.iter().map(|run| run.nanoseconds / run.runs).filter(|ns| ns.is_finite()));
            (*name, runs, each, time)
        })
        .filter(|(_, runs, ..)| runs.median >= SHOWN)
        .collect();
    rows.sort_by(|(.., a), (.., b)| b.median.total_cmp(&a.median));
    for (name, runs, each, time) in rows {
        table.row([
            Cell::from(format!("`{name}`")),
            runs.median_cell(2),
            each.median_cell(0),
            time.median_cell(0),
            time.spread_cell(0),
        ]);
    }
    table
}
