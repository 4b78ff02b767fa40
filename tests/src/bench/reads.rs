//! `reads`: bodies of 1 MB. The read hook fires for each buffer that is read, not for each call, so it is at its
//! dearest where segments come one by one, as from a card without offloads.

use anyhow::{Context, Result};

use super::kernel::rounds;
use super::load::{Stage, Upstream};
use super::programs::{self, Run};
use super::stats::Spread;
use super::{Options, Table};
use crate::agent::Agent;

const BODY: usize = 1_000_000;
/// How segments are bundled is the scheduler's matter, so requests differ.
const DISTURBED: f64 = 1.25;

const HOOK: &str = "tcp_rcv_space_adjust";

/// Measures with segmentation offload and without.
///
/// # Errors
/// When the agent or the stage cannot be set up.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    let mut table = Table::new(
        "Reads: bodies of 1 MB over keep-alive",
        &[
            "segments",
            "runs per request",
            "ns per run",
            "µs per request",
            "spread",
            "share of nginx' CPU time",
        ],
    );
    for (name, segments) in [("with offload", None), ("`gso_max_segs 1`", Some("1"))] {
        let stage = Stage::set(Upstream::Kept, BODY)?;
        // A segment over loopback is else 64 kB, with offload and without.
        stage.net().gateway().ip(&["link", "set", "lo", "mtu", "1500"])?;
        if let Some(segments) = segments {
            stage.net().gateway().ip(&["link", "set", "lo", "gso_max_segs", segments])?;
        }
        let agent = Agent::start_with(&[])?;
        let before = stage.cpu_seconds()?;
        let read = |agent: &&Agent| Ok(programs::of_agent(&agent.scrape()?));
        // One agent for all rounds: its programs' whole time is compared with that of both nginx.
        let rounds = rounds(&stage, options, DISTURBED, || Ok(&agent), read)?;
        let spent = stage.cpu_seconds()? - before;
        let all: Vec<Run> = rounds.iter().filter_map(|runs| runs.get(HOOK)).copied().collect();
        let time = Spread::of(all.iter().map(|run| run.nanoseconds / 1e3));
        let all_of_it = programs::of_agent(&agent.scrape()?).get(HOOK).copied();
        let share = all_of_it.context("the read hook has no statistics")?.nanoseconds / 1e9 / spent;
        table.row([
            name.into(),
            Spread::of(all.iter().map(|run| run.runs)).median_cell(0),
            programs::per_run(&all).median_cell(0),
            time.median_cell(1),
            time.spread_cell(1),
            format!("{:.1} %", share * 100.0).into(),
        ]);
    }
    table.note(format!(
        "`{HOOK}` over all four sockets of a request: wrk and the gateway read 1 MB each, in segments \
         of 1448 bytes or, with offload, in bundles of them. The share is of the time \
         that both nginx spent on a processor, which holds no time of wrk's. Spread: middle half (least–most) of {} \
         rounds of {} s.",
        options.pairs,
        options.duration.as_secs()
    ));
    Ok(vec![table])
}
