//! Processes, as a verdict's line names them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Names, Origin, hundredths};
use crate::enrich::container::Container;
use crate::enrich::pods::Pod;
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
    /// The pod that it runs in, as the node's files name it.
    #[serde(default)]
    pub pod: Option<Pod>,
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
    #[serde(default)]
    pub cgroup: Option<String>,
    #[serde(default)]
    pub container: Option<String>,
    #[serde(default)]
    pub pod: Option<Pod>,
}

/// Where a process runs.
struct Place {
    cgroup: Option<String>,
    container: Option<String>,
    pod: Option<Pod>,
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

// === impl OwnerView, CulpritView, Place, ExitView, ProcessView ===

impl OwnerView {
    /// With what the host says of its cgroup.
    pub(super) fn new(process: &Process, names: &dyn Names, origin: &Origin) -> Self {
        let Place { cgroup, container, pod } = Place::of(process, names);
        let started = origin.start_of(process);
        Self { pid: process.tgid, comm: process.comm.clone(), cgroup, container, started, pod }
    }
}

impl CulpritView {
    pub(super) fn new(culprit: &Culprit, names: &dyn Names, origin: &Origin) -> Self {
        let Place { cgroup, container, pod } = Place::of(&culprit.process, names);
        Self {
            pid: culprit.process.tgid,
            comm: culprit.process.comm.clone(),
            exit: culprit.exit.map(ExitView::new),
            killed_by: culprit.killed_by.as_ref().map(ProcessView::new),
            started: origin.start_of(&culprit.process),
            cgroup,
            container,
            pod,
        }
    }

    /// `php-fpm[4242] is of pod shop/api-66b6c48dd5-gz5nx`; None of a process whose pod has no name.
    pub(super) fn pod_words(&self) -> Option<String> {
        let pod = self.pod.as_ref()?.full_name()?;
        Some(format!("{}[{}] is of pod {pod}", self.comm, self.pid))
    }
}

impl Place {
    fn of(process: &Process, names: &dyn Names) -> Self {
        let cgroup = names.cgroup(process);
        let container = cgroup.as_deref().and_then(Container::from_cgroup);
        let pod = container.as_ref().and_then(|container| names.pod(container));
        Self { cgroup, container: container.map(|c| c.id), pod }
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
