//! What the kernel's own statistics say of the agent's programs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

use anyhow::{Context, Result};

use super::stats::Spread;
use crate::scrape::Scrape;

/// `BPF_ENABLE_STATS` and `BPF_STATS_RUN_TIME` of uapi/linux/bpf.h.
const ENABLE_STATS: libc::c_int = 32;
const RUN_TIME: u32 = 0;

/// The kernel times each run of a program while this lives, whatever `kernel.bpf_stats_enabled` says (Linux 5.8).
#[derive(Debug)]
pub struct Timed {
    _statistics: File,
}

impl Timed {
    /// Starts to time.
    ///
    /// # Errors
    /// When the kernel refuses, as without root it does.
    pub fn start() -> Result<Self> {
        let kind = RUN_TIME;
        // SAFETY: the kernel reads four bytes, which `kind` has, and gives a descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, ENABLE_STATS, &raw const kind, size_of_val(&kind)) };
        let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error).context("have the kernel time its programs")?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { _statistics: unsafe { File::from_raw_fd(fd) } })
    }
}

/// Runs and nanoseconds of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Run {
    pub runs: f64,
    pub nanoseconds: f64,
}

/// Of each program, by name.
pub type Runs = BTreeMap<String, Run>;

/// What the agent's programs have done since they were loaded.
#[must_use]
pub fn of_agent(scrape: &Scrape) -> Runs {
    let mut runs = Runs::new();
    for sample in scrape.matching("rstrace_program_runs_total", &[]) {
        runs.entry(sample.label("program").unwrap_or_default().to_owned()).or_default().runs = sample.value;
    }
    for sample in scrape.matching("rstrace_program_seconds_total", &[]) {
        let run = runs.entry(sample.label("program").unwrap_or_default().to_owned()).or_default();
        run.nanoseconds = sample.value * 1e9;
    }
    runs
}

/// What was done between two readings, for each of so many requests.
#[must_use]
pub fn per_request(before: &Runs, after: &Runs, requests: f64) -> Runs {
    let less = |(name, now): (&String, &Run)| {
        let was = before.get(name).copied().unwrap_or_default();
        let run = Run {
            runs: (now.runs - was.runs) / requests,
            nanoseconds: (now.nanoseconds - was.nanoseconds) / requests,
        };
        (name.clone(), run)
    };
    after.iter().map(less).collect()
}

/// Nanoseconds of a single run, where there was one.
#[must_use]
pub fn per_run(all: &[Run]) -> Spread {
    Spread::of(all.iter().map(|run| run.nanoseconds / run.runs).filter(|each| each.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::{Run, of_agent, per_request};
    use crate::scrape::Scrape;

    #[test]
    fn only_what_was_done_in_between_counts() {
        let text = |runs: u32, seconds: f64| {
            format!(
                "rstrace_program_runs_total{{program=\"p\"}} {runs}\n\
                 rstrace_program_seconds_total{{program=\"p\"}} {seconds}\n"
            )
        };
        let [before, after] =
            [text(10, 0.5), text(30, 1.5)].map(|text| of_agent(&Scrape::parse(&text).unwrap()));
        let per_request = per_request(&before, &after, 10.0);
        assert_eq!(per_request["p"], Run { runs: 2.0, nanoseconds: 1e8 });
    }
}
