//! The only room that knows aya, /sys, /proc and unsafe: it loads the programs, reads the ring and the maps,
//! and answers the few questions that only the host can answer.
//!
//! To its right stands `event`: what leaves here are decoded events, counters and plain values.

mod attach;
pub mod btf;
pub mod cgroup;
pub mod clock;
#[cfg(feature = "kubernetes")]
pub mod conntrack;
mod counters;
mod groups;
mod hooks;
mod iterator;
mod loader;
pub mod memory;
mod namespaces;
pub mod netns;
mod offsets;
pub mod own_use;
pub mod privileges;
mod program_log;
mod ring;
mod snapshot;
mod support;
mod upstreams;

pub use counters::{Counters, CountersError, ProgramRun};
pub use groups::{Group, Groups, UnknownGroup};
pub use hooks::{Hook, HookStatus, Way};
pub use iterator::{LookError, LookFault};
pub use loader::{Kernel, LoadError, Options};
pub use namespaces::{Namespace, counted_by_kernel};
pub use offsets::{Layout, OffsetsError};
pub use program_log::ProgramLog;
pub use ring::{Ring, RingError};
pub use snapshot::Found;
pub use support::{LOCKED_DOWN, Support, Verdict as SupportVerdict};
