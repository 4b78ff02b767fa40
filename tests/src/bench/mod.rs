//! What the agent costs, and what it keeps up with: cases that measure and print tables.
//!
//! Machines are noisy, so a time is never given alone: what is compared runs in alternating pairs, and a table shows
//! the median and the spread of the pairs' ratios. Nothing here judges; the goals stand beside the results.

pub mod about;
pub mod daemon;
pub mod empty;
pub mod faults;
mod flood;
mod gateway;
pub mod holders;
mod kernel;
mod latency;
pub mod load;
mod observer;
pub mod programs;
mod reads;
mod rps;
mod scale;
pub mod stats;
pub mod table;

use std::time::Duration;

use anyhow::{Context, Result};

pub use about::About;
pub use table::{Cell, Table};

/// What the caller may change.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long each single measurement lasts.
    pub duration: Duration,
    /// How many pairs, or rounds where nothing is compared.
    pub pairs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { duration: Duration::from_secs(3), pairs: 8 }
    }
}

/// What a case measures, and how.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    pub measure: fn(&Options) -> Result<Vec<Table>>,
}

/// Every case, in the order in which all of them run.
pub const CASES: &[Case] = &[
    Case {
        name: "gateway",
        about: "requests per second and CPU time of a proxying nginx, with the agent and with what people use today",
        measure: gateway::measure,
    },
    Case {
        name: "kernel",
        about: "runs and nanoseconds of each kernel program per proxied request",
        measure: kernel::measure,
    },
    Case {
        name: "reads",
        about: "the read hook with bodies of 1 MB, with segmentation offload and without",
        measure: reads::measure,
    },
    Case {
        name: "flood",
        about: "ended connections as fast as the cores make them: counted, judged, lost, and the agent's CPU",
        measure: flood::measure,
    },
    Case {
        name: "scale",
        about: "many connections, upstreams and processes: start-up, memory, scrapes, and the agent's CPU",
        measure: scale::measure,
    },
    Case {
        name: "latency",
        about: "from the kernel's event to the line on a watcher",
        measure: latency::measure,
    },
];

/// The case of this name.
///
/// # Errors
/// When there is none.
pub fn named(name: &str) -> Result<&'static Case> {
    let names = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
    CASES
        .iter()
        .find(|case| case.name == name)
        .with_context(|| format!("no case {name:?}; there are {}", names()))
}

/// Runs one case, or all of them, and hands each table over as soon as it is there.
///
/// # Errors
/// When one cannot be measured.
pub fn run(case: Option<&Case>, options: &Options, mut show: impl FnMut(&str, &Table)) -> Result<()> {
    for case in case.map_or(CASES, std::slice::from_ref) {
        let tables = (case.measure)(options).with_context(|| format!("case {}", case.name))?;
        for table in &tables {
            show(case.name, table);
        }
    }
    Ok(())
}
