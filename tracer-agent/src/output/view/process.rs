//! Processes, as a verdict's line names them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Names, Origin, hundredths};
use crate::enrich::container::Container;
use crate::event::{Exit, Process};
use crate::verdict::{Culprit, signal_name};

/// The process of the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerView {
    pub pid: u32,
    pub comm: String,
    pub cgroup: Option<String>,
    pub container: Option<String>,
    /// When it was started, as `ps -o lstart` says, to 10 ms.
    #[serde(default, with = "hundredths")]
    pub started: Option<Timestamp>,
}

/// The process whose action or end is the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CulpritView {
    pub pid: u32,
    pub comm: String,
    pub exit: Option<ExitView>,
    pub killed_by: Option<ProcessView>,
    /// As in [`OwnerView`].
    #[serde(default, with = "hundredths")]
    pub started: Option<Timestamp>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExitView {
    pub code: Option<u8>,
    pub signal: Option<String>,
    pub oom: bool,
}

/// A process, by what `ps` calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessView {
    pub pid: u32,
    pub comm: String,
}

// === impl OwnerView, CulpritView, ExitView, ProcessView ===

impl OwnerView {
    /// With what the host says of its cgroup.
    pub(super) fn new(process: &Process, names: &dyn Names, origin: &Origin) -> Self {
        let cgroup = names.cgroup(process);
        let container = cgroup.as_deref().and_then(Container::from_cgroup).map(|c| c.id);
        let started = origin.start_of(process);
        Self { pid: process.tgid, comm: process.comm.clone(), cgroup, container, started }
    }
}

impl CulpritView {
    pub(super) fn new(culprit: &Culprit, origin: &Origin) -> Self {
        Self {
            pid: culprit.process.tgid,
            comm: culprit.process.comm.clone(),
            exit: culprit.exit.map(ExitView::new),
            killed_by: culprit.killed_by.as_ref().map(ProcessView::new),
            started: origin.start_of(&culprit.process),
        }
    }
}

impl ExitView {
    #[must_use]
    pub fn new(exit: Exit) -> Self {
        Self { code: exit.code, signal: exit.signal.map(signal_name), oom: exit.oom }
    }
}

impl ProcessView {
    #[must_use]
    pub fn new(process: &Process) -> Self {
        Self { pid: process.tgid, comm: process.comm.clone() }
    }
}
