//! A process as the programs describe it, and how it ended.

use serde::{Deserialize, Serialize};

/// tgid and start time (nanoseconds since boot) of a process.
pub type ProcessId = (u32, u64);

/// A process, named by tgid and start time, so that a wrapped pid is another process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pub tgid: u32,
    pub parent_tgid: u32,
    /// Nanoseconds since boot.
    pub start_boottime: u64,
    /// The same of its parent; 0 if it is not known.
    #[serde(default)]
    pub parent_start_boottime: u64,
    /// The thread group leader's name as the kernel holds it: bytes that the process chose itself.
    pub comm: String,
    /// Inode number of the cgroup in the default hierarchy.
    pub cgroup_id: u64,
    pub netns: u32,
    /// Set while the process is dying (`PF_EXITING`), with how.
    pub exit: Option<Exit>,
    /// A kernel thread: it acts for somebody else (`PF_KTHREAD`).
    pub kernel_thread: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit {
    /// Status given to `exit`, if it ended by itself.
    pub code: Option<u8>,
    /// Number of the signal that ended it.
    pub signal: Option<u8>,
    /// The OOM killer sent that signal.
    pub oom: bool,
}

impl Process {
    /// The same process: pids wrap, start times do not.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    /// `other` was its parent.
    #[must_use]
    pub fn is_child_of(&self, other: &Self) -> bool {
        self.parent_id() == other.id()
    }

    /// What no other process has: tgid and start time.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        (self.tgid, self.start_boottime)
    }

    /// The same of its parent.
    #[must_use]
    pub fn parent_id(&self) -> ProcessId {
        (self.parent_tgid, self.parent_start_boottime)
    }
}

impl Exit {
    /// Unpacks `task_struct.exit_code`, which is packed as wait(2) packs it.
    #[must_use]
    pub fn from_wait_status(status: u32, oom: bool) -> Self {
        let signal = (status & 0x7f) as u8;
        if signal == 0 {
            Self { code: Some((status >> 8) as u8), signal: None, oom: false }
        } else {
            Self { code: None, signal: Some(signal), oom }
        }
    }
}
