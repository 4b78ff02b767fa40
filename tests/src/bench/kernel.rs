//! `kernel`: runs and nanoseconds of each program for each proxied request, over all four of its sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::empty::EmptyPrograms;
use super::load::{Stage, Upstream};
use super::programs::{self, Run, Runs, Timed};
use super::stats::Spread;
use super::table::grouped;
use super::{Cell, Options, Table};
use crate::agent::Agent;

/// Programs that run less often than once in so many requests are not shown one by one.
const SHOWN: f64 = 0.01;

/// How many more runs than the quietest round had must be somebody else's: requests here are all alike.
const DISTURBED: f64 = 1.02;

/// So many times the wanted rounds are played at most.
const PATIENCE: usize = 3;

/// Measures both kinds of upstream connections.
///
/// # Errors
/// When the agent or the stage cannot be set up.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    let mut sums = Table::new(
        "Kernel: time in programs per proxied request",
        &[
            "upstream",
            "placed",
            "programs",
            "ns per request, median",
            "spread",
            "goal",
            "stretch",
            "times the empty ones",
            "goal in these",
            "runs per request",
        ],
    );
    let mut tables = Vec::new();
    for (upstream, goals) in [(Upstream::New, NEW), (Upstream::Kept, KEPT)] {
        let agent = of_the_agent(upstream, options)?;
        let (empty, left_out) = of_nothing(upstream, options)?;
        for (placed, (agent, empty)) in PLACED.iter().zip(agent.iter().zip(&empty)) {
            let times = time_of(agent).median / time_of(empty).median;
            sums.row(sum(upstream, placed, "the agent's", agent, goals.of_the_agent(times)));
            sums.row(sum(upstream, placed, "empty (the limit)", empty, ["", "", "", ""].map(Cell::from)));
            tables.push(programs_table(upstream, placed, agent));
        }
        if !left_out.is_empty() {
            sums.note(format!("{}: no empty program on {}.", upstream.name(), left_out.join(", ")));
        }
    }
    sums.note(format!(
        "All four sockets of a request are on this host, over loopback. Times are the kernel's (`run_time_ns`), what \
         timing costs included. The goals were set where empty programs took {} ns with new connections and {} over \
         keep-alive: what that makes in multiples of these is a goal that no processor changes. Programs are loaded \
         anew for each round of {} s; those in which others' connections ran them too were played again. Spread: \
         middle half (least–most) of up to {} rounds.",
        NEW.empty,
        KEPT.empty,
        options.duration.as_secs(),
        options.pairs,
    ));
    tables.insert(0, sums);
    Ok(tables)
}

/// One after the other, where the gateway runs; see [`Stage::share_one_core`].
const PLACED: [&str; 2] = ["gateway apart", "all on one core"];

/// Nanoseconds per request that the agent's programs may take.
#[derive(Debug, Clone, Copy)]
struct Goals {
    most: f64,
    stretch: f64,
    /// What empty programs took where the goals were set.
    empty: f64,
}

const NEW: Goals = Goals { most: 1500.0, stretch: 900.0, empty: 540.0 };
const KEPT: Goals = Goals { most: 300.0, stretch: 230.0, empty: 170.0 };

impl Goals {
    fn of_the_agent(&self, times: f64) -> [Cell; 4] {
        [
            format!("≤ {}", grouped(&self.most.to_string())).into(),
            Cell::number(self.stretch, 0),
            Cell::number(times, 2),
            format!("≤ {:.2}", self.most / self.empty).into(),
        ]
    }
}

/// Rounds for each of [`PLACED`].
fn of_the_agent(upstream: Upstream, options: &Options) -> Result<[Vec<Runs>; 2]> {
    let begin = || Agent::start_with(&[]);
    placed(upstream, options, begin, |agent| Ok(programs::of_agent(&agent.scrape()?)))
}

/// The same of empty programs, and the hooks that have none.
fn of_nothing(upstream: Upstream, options: &Options) -> Result<([Vec<Runs>; 2], Vec<String>)> {
    let scrape = Agent::start_with(&[])?.scrape()?;
    let rounds = placed(upstream, options, || EmptyPrograms::attach(&scrape), EmptyPrograms::runs)?;
    Ok((rounds, EmptyPrograms::left_out(&scrape)))
}

fn placed<T>(
    upstream: Upstream,
    options: &Options,
    begin: impl Fn() -> Result<T>,
    read: impl Fn(&T) -> Result<Runs>,
) -> Result<[Vec<Runs>; 2]> {
    let stage = Stage::set(upstream, 2)?;
    let apart = rounds(&stage, options, DISTURBED, &begin, &read)?;
    stage.share_one_core()?;
    Ok([apart, rounds(&stage, options, DISTURBED, &begin, &read)?])
}

/// What each program did per request, round by round. The programs are loaded anew for each, so that none is
/// measured in one place in memory only. Over keep-alive a whole run may still be a fifth dearer than the next; why is
/// not known.
///
/// They run for the whole host, so others' connections only ever add runs: a round with `disturbed` times those
/// of the quietest is played again, as long as there is hope.
///
/// # Errors
/// When the load fails or the statistics cannot be read.
pub fn rounds<T>(
    stage: &Stage,
    options: &Options,
    disturbed: f64,
    begin: impl Fn() -> Result<T>,
    read: impl Fn(&T) -> Result<Runs>,
) -> Result<Vec<Runs>> {
    let _timed = Timed::start()?;
    let mut all: Vec<Runs> = Vec::new();
    while undisturbed(&all, disturbed).count() < options.pairs && all.len() < options.pairs * PATIENCE {
        let loaded = begin()?;
        // The first second fills caches, pools and tables.
        stage.load(Duration::from_secs(1))?;
        let before = read(&loaded)?;
        let done = stage.load(options.duration)?;
        stage.settle()?;
        all.push(programs::per_request(&before, &read(&loaded)?, done.requests));
    }
    Ok(undisturbed(&all, disturbed).cloned().collect())
}

fn undisturbed(all: &[Runs], disturbed: f64) -> impl Iterator<Item = &Runs> {
    let count = |runs: &Runs| runs.values().map(|run| run.runs).sum::<f64>();
    let least = all.iter().map(count).fold(f64::INFINITY, f64::min);
    all.iter().filter(move |runs| count(runs) <= least * disturbed)
}

fn total(rounds: &[Runs], of: fn(&Run) -> f64) -> Spread {
    Spread::of(rounds.iter().map(|runs| runs.values().map(of).sum()))
}

fn time_of(rounds: &[Runs]) -> Spread {
    total(rounds, |run| run.nanoseconds)
}

fn sum(upstream: Upstream, placed: &str, programs: &str, rounds: &[Runs], goals: [Cell; 4]) -> Vec<Cell> {
    let time = time_of(rounds);
    let runs = total(rounds, |run| run.runs);
    let mut row = vec![upstream.name().into(), placed.into(), programs.into()];
    row.extend([time.median_cell(0), time.spread_cell(0)]);
    row.extend(goals);
    row.push(runs.median_cell(2));
    row
}

fn programs_table(upstream: Upstream, placed: &str, rounds: &[Runs]) -> Table {
    let title = format!("Kernel: programs, {}, {placed}", upstream.name());
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
            (*name, runs, programs::per_run(all), time)
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

#[cfg(test)]
mod tests {
    use super::{Run, Runs, undisturbed};

    #[test]
    fn a_round_with_runs_of_others_is_left_out() {
        let round = |runs: f64| Runs::from([("p".to_owned(), Run { runs, nanoseconds: runs * 50.0 })]);
        let all = [14.0, 10.0, 10.1, 10.3].map(round);
        let kept: Vec<_> = undisturbed(&all, 1.02).map(|runs| runs["p"].runs).collect();
        assert_eq!(kept, [10.0, 10.1]);
    }
}
