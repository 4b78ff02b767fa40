//! `gateway`: what a proxying nginx loses while somebody looks on.

use std::time::Duration;

use anyhow::Result;

use super::load::{Done, Stage, Upstream};
use super::observer::Observer;
use super::stats::Spread;
use super::{Cell, Options, Table};

/// Two observers, and what the second must reach of the first's requests per second.
#[derive(Debug, Clone, Copy)]
struct Comparison {
    base: Observer,
    with: Observer,
    /// For new connections and for keep-alive.
    goals: [&'static str; 2],
}

const fn against_nobody(with: Observer, goals: [&'static str; 2]) -> Comparison {
    Comparison { base: Observer::Nobody, with, goals }
}

/// The first compares nothing with nothing: what it shows is noise.
const COMPARISONS: &[Comparison] = &[
    against_nobody(Observer::Nobody, ["", ""]),
    against_nobody(Observer::Agent, ["≥ 0.97", "≥ 0.99"]),
    against_nobody(Observer::EmptyPrograms, ["", ""]),
    Comparison { base: Observer::EmptyPrograms, with: Observer::Agent, goals: ["≥ 0.985", "≥ 0.99"] },
    against_nobody(Observer::Bpftrace, ["", ""]),
    against_nobody(Observer::Tcpdump, ["", ""]),
    against_nobody(Observer::Tcpstates, ["", ""]),
    against_nobody(Observer::Tcplife, ["", ""]),
];

/// One run under each of the two.
#[derive(Debug, Clone, Copy)]
struct Pair {
    base: Seen,
    with: Seen,
}

/// A run of the load, and what the observer itself took.
#[derive(Debug, Clone, Copy)]
struct Seen {
    done: Done,
    own_seconds: f64,
}

/// Pairs of one comparison, or why there are none.
type Pairs = Result<Vec<Pair>, String>;

/// Measures both kinds of upstream connections.
///
/// # Errors
/// When the stage cannot be set, or the load fails without an observer.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    Upstream::BOTH.iter().enumerate().map(|(which, upstream)| table(*upstream, which, options)).collect()
}

fn table(upstream: Upstream, which: usize, options: &Options) -> Result<Table> {
    let stage = Stage::set(upstream, 2)?;
    stage.load(Duration::from_secs(2))?;
    let mut results: Vec<Pairs> = COMPARISONS.iter().map(|_| Ok(Vec::new())).collect();
    // Round by round, so that what changes on the machine in the meantime meets all comparisons alike.
    for round in 0..options.pairs {
        eprintln!("{}: round {} of {}", upstream.name(), round + 1, options.pairs);
        for (comparison, result) in COMPARISONS.iter().zip(&mut results) {
            let Ok(pairs) = result else { continue };
            match pair(&stage, *comparison, round, options.duration) {
                Ok(pair) => pairs.push(pair),
                Err(error) => *result = Err(format!("{error:#}")),
            }
        }
    }
    Ok(summary(upstream, which, &results, options))
}

/// The order changes from round to round: what a run leaves behind meets both alike.
fn pair(stage: &Stage, comparison: Comparison, round: usize, duration: Duration) -> Result<Pair> {
    let run = |observer| seen(stage, observer, duration);
    if round.is_multiple_of(2) {
        let base = run(comparison.base)?;
        Ok(Pair { base, with: run(comparison.with)? })
    } else {
        let with = run(comparison.with)?;
        Ok(Pair { base: run(comparison.base)?, with })
    }
}

fn seen(stage: &Stage, observer: Observer, duration: Duration) -> Result<Seen> {
    let watching = observer.start(stage)?;
    let before = watching.cpu_seconds()?;
    let done = stage.load(duration)?;
    stage.settle()?;
    Ok(Seen { done, own_seconds: watching.cpu_seconds()? - before })
}

fn summary(upstream: Upstream, which: usize, results: &[Pairs], options: &Options) -> Table {
    let mut table = Table::new(
        format!("Gateway: {}", upstream.name()),
        &[
            "with",
            "against",
            "requests/s, ratio",
            "spread",
            "goal",
            "nginx' CPU time per request, ratio",
            "spread",
            "observer's own CPU per request",
        ],
    );
    for (comparison, result) in COMPARISONS.iter().zip(results) {
        let [with, base] = [comparison.with, comparison.base].map(|observer| Cell::from(observer.name()));
        let goal = comparison.goals.get(which).copied().unwrap_or_default();
        match result {
            Ok(pairs) => table.row([&[with, base][..], &figures(pairs, goal)].concat()),
            Err(why) => {
                table.row([&[with, base, "cannot run".into()][..], &vec![Cell::from(""); 5]].concat());
                table.note(format!("{} cannot run here: {why}.", comparison.with.name()));
            }
        }
    }
    let nobody = results.iter().flatten().flatten();
    let rate = Spread::of(nobody.map(|pair| pair.base.done.per_second));
    table.note(format!(
        "{:.0} requests/s (middle half {:.0}–{:.0}) over all runs that others are compared with. Ratios are medians \
         of {} alternating pairs of {} s each; spread: middle half (least–most). The first line compares nothing with \
         nothing: what it shows is the machine's noise. CPU time is that of both nginx, softirqs that came over them \
         included.",
        rate.median,
        rate.low,
        rate.high,
        options.pairs,
        options.duration.as_secs()
    ));
    table
}

fn figures(pairs: &[Pair], goal: &str) -> Vec<Cell> {
    let ratio = |of: fn(&Seen) -> f64| Spread::of(pairs.iter().map(|pair| of(&pair.with) / of(&pair.base)));
    let rate = ratio(|seen| seen.done.per_second);
    let cpu = ratio(|seen| seen.done.cpu_seconds / seen.done.requests);
    let own = Spread::of(pairs.iter().map(|pair| pair.with.own_seconds / pair.with.done.requests * 1e6));
    vec![
        rate.median_cell(3),
        rate.spread_cell(2),
        goal.into(),
        cpu.median_cell(3),
        cpu.spread_cell(2),
        format!("{:.2} µs", own.median).into(),
    ]
}
