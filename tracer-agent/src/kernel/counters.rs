//! Reads the kernel's counters: at each scrape, and never more often.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{HashMap, MapError, PerCpuArray};
use thiserror::Error;
use tracer_ebpf::wire::{AlikeKey, UpstreamCounters, UpstreamKey, kind, tally};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::loader::Kernel;

/// What the programs have counted.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub upstreams: Vec<(UpstreamKey, UpstreamCounters)>,
    /// Sums over CPUs, by `wire::tally`.
    pub tally: Vec<u64>,
    pub programs: Vec<ProgramRun>,
}

/// The kernel's own statistics of one program; runs and time only while `kernel.bpf_stats_enabled` is 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramRun {
    pub name: &'static str,
    pub runs: u64,
    pub nanoseconds: u64,
    /// Runs that the kernel skipped, since the program was running on that CPU already.
    pub recursion_misses: u64,
}

/// Why the counters cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the kernel's counters from map {map}: {source}")]
pub struct CountersError {
    pub(super) map: &'static str,
    pub(super) source: MapError,
}

impl Kernel {
    /// Reads all counters.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn counters(&self) -> Result<Counters, CountersError> {
        Ok(Counters { upstreams: self.upstreams()?, tally: self.tally()?, programs: self.program_runs() })
    }

    /// Ends that found no room in the ring; each would have been a line at most.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn lost_ends(&self) -> Result<u64, CountersError> {
        let failed = |source| CountersError { map: "TALLY", source };
        let Some(map) = self.ebpf.map("TALLY") else { return Ok(0) };
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(failed)?;
        let kinds = [kind::SOCKET_END, kind::CONNECT_ERROR, kind::UNIX_END];
        let counts = kinds.map(|kind| map.get(&(tally::LOST + u32::from(kind)), 0).map_err(failed));
        counts.into_iter().map(|count| Ok(count?.iter().sum::<u64>())).sum()
    }

    /// Connects that failed like others and got no record.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn alike(&self) -> Result<Vec<(AlikeKey, u64)>, CountersError> {
        let failed = |source| CountersError { map: "ALIKE", source };
        let Some(map) = self.ebpf.map("ALIKE") else { return Ok(vec![]) };
        let map: HashMap<_, [u8; size_of::<AlikeKey>()], u64> = HashMap::try_from(map).map_err(failed)?;
        let rows = map.iter().map(|row| {
            let (key, count) = row.map_err(failed)?;
            Ok((AlikeKey::read_from_bytes(&key).unwrap_or_default(), count))
        });
        rows.collect()
    }

    /// Takes away the place of a way to fail; returns what was counted there. What is counted between the two steps, a
    /// microsecond, is lost: only for those that have been idle for long.
    ///
    /// # Errors
    /// If the map cannot be read or written.
    pub fn forget_alike(&mut self, key: &AlikeKey) -> Result<u64, CountersError> {
        let failed = |source| CountersError { map: "ALIKE", source };
        let mut bytes = [0; size_of::<AlikeKey>()];
        bytes.copy_from_slice(key.as_bytes());
        let Some(map) = self.ebpf.map_mut("ALIKE") else { return Ok(0) };
        let mut map: HashMap<_, [u8; size_of::<AlikeKey>()], u64> = HashMap::try_from(map).map_err(failed)?;
        let count = map.get(&bytes, 0).map_err(failed)?;
        map.remove(&bytes).map_err(failed)?;
        Ok(count)
    }

    fn tally(&self) -> Result<Vec<u64>, CountersError> {
        let failed = |source| CountersError { map: "TALLY", source };
        let Some(map) = self.ebpf.map("TALLY") else { return Ok(vec![]) };
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(failed)?;
        (0..tally::COUNT).map(|index| Ok(map.get(&index, 0).map_err(failed)?.iter().sum())).collect()
    }

    /// Runs of these programs that the kernel skipped.
    pub(super) fn skipped(&self, programs: &[&str]) -> u64 {
        let runs = self.program_runs();
        runs.iter().filter(|run| programs.contains(&run.name)).map(|run| run.recursion_misses).sum()
    }

    fn program_runs(&self) -> Vec<ProgramRun> {
        let names = self.hooks.iter().flat_map(|status| {
            let way = status.attached;
            status.hook.attachments.iter().filter(move |a| Some(a.way) == way).map(|a| a.program)
        });
        names
            .filter_map(|name| {
                let fd = self.ebpf.program(name)?.fd().ok()?.as_fd().as_raw_fd();
                Some(program_run(name, &fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?))
            })
            .collect()
    }
}

/// From the `fdinfo` of a program (`bpf_prog_show_fdinfo` of kernel/bpf/syscall.c), the only place where aya's
/// users find `recursion_misses` (since Linux 5.12).
fn program_run(name: &'static str, fdinfo: &str) -> ProgramRun {
    let field = |key: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    ProgramRun {
        name,
        runs: field("run_cnt"),
        nanoseconds: field("run_time_ns"),
        recursion_misses: field("recursion_misses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_of_a_program_are_read_from_its_fdinfo() {
        let fdinfo = "pos:\t0\nprog_type:\t26\nmemlock:\t12288\nrun_time_ns:\t420\nrun_cnt:\t7\nrecursion_misses:\t3\n";
        let run = ProgramRun { name: "p", runs: 7, nanoseconds: 420, recursion_misses: 3 };
        assert_eq!(program_run("p", fdinfo), run);
        assert_eq!(program_run("p", "nonsense"), ProgramRun { name: "p", ..ProgramRun::default() });
    }
}
