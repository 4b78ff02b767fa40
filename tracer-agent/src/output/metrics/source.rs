//! Where the figures of a scrape come from: what the host answers.

use tracer_ebpf::wire::{AlikeKey, UpstreamCounters, UpstreamKey};

use crate::audit;

/// What is read from the kernel and from /proc when somebody scrapes.
#[derive(Clone, Debug, Default)]
pub struct KernelSnapshot {
    pub upstreams: Vec<(UpstreamKey, UpstreamCounters)>,
    /// Summed over the CPUs; indices in `wire::tally`.
    pub tally: Vec<u64>,
    /// Jiffies in a second.
    pub hz: u32,
    /// What the kernel counted itself against what was seen.
    pub audit: audit::Report,
    /// Runs of programs that the kernel skipped.
    pub recursion_misses: u64,
    /// Answers that a source of names failed to give; None without such a source.
    pub names_failures: Option<u64>,
    /// Empty unless the kernel keeps such statistics (`kernel.bpf_stats_enabled`).
    pub programs: Vec<ProgramUse>,
    /// None if /proc could not be read.
    pub process: Option<ProcessUse>,
}

/// What a kernel program cost so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgramUse {
    pub name: String,
    pub runs: u64,
    pub seconds: f64,
}

/// What the agent itself costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUse {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_fds: u64,
    /// Unix time.
    pub start_time_seconds: f64,
}

/// Where the figures of a scrape come from.
pub trait Source: Send + Sync {
    fn snapshot(&self) -> KernelSnapshot;
    /// Whose network a namespace is, as [`crate::output::Names::scope`] says.
    fn scope(&self, netns: u32) -> String;
    /// How many upstreams have a place in the kernel.
    fn upstreams_in_use(&self) -> u64;
    /// Those, and what was counted of them.
    fn upstreams(&self) -> Vec<(UpstreamKey, UpstreamCounters)>;
    /// Connects that failed like one that was told, and were only counted.
    fn alike(&self) -> Vec<(AlikeKey, u64)>;
    /// Takes away the place of such; returns what was counted there.
    fn forget_alike(&self, key: &AlikeKey) -> Option<u64>;
    /// Takes away the place of an upstream; returns what was counted there.
    fn expire(&self, upstream: &UpstreamKey) -> Option<UpstreamCounters>;
}
