//! Paths of Unix sockets, and who serves them.

use super::bounded::{Bounded, Fill};
use super::processes::Processes;
use crate::event::{Exit, Process, UnixServer};

/// Paths remembered; a host has some dozens of sockets that anybody serves.
const CAPACITY: usize = 1024;
/// As for listeners: a path is dialled for long after its server has gone.
const TTL_NS: u64 = 24 * 3600 * 1_000_000_000;

/// Who served a path last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastServer {
    pub process: Process,
    pub exit: Option<Exit>,
    /// Who sent the signal that ended it.
    pub killed_by: Option<Process>,
}

/// The table.
#[derive(Clone, Debug)]
pub struct UnixPaths {
    /// The process that was found to serve a path last.
    servers: Bounded<String, Process>,
}

impl Default for UnixPaths {
    fn default() -> Self {
        Self { servers: Bounded::new("unix_paths", CAPACITY, TTL_NS) }
    }
}

impl UnixPaths {
    pub fn served(&mut self, event: &UnixServer) {
        let connection = &event.connection;
        if let Some(server) = &connection.server
            && !connection.path.is_empty()
        {
            self.servers.insert(connection.path.clone(), server.clone(), event.ktime_ns);
        }
    }

    /// Who served a path last, with how that process ended, if it did.
    #[must_use]
    pub fn last(&self, path: &str, processes: &Processes) -> Option<LastServer> {
        let process = self.servers.get(&path.to_owned())?.clone();
        let (exit, killed_by) = (processes.exit_of(&process), processes.killer_of(&process).cloned());
        Some(LastServer { process, exit, killed_by })
    }

    pub fn expire(&mut self, now: u64) {
        self.servers.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.servers.fill()
    }
}
