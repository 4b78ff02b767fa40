//! Who listens where, who did, until when, and how that ended.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bounded::{Bounded, Fill};
use super::processes::Processes;
use crate::event::{Existing, Exit, ListenerChange, Process};

/// Addresses remembered. A host has some hundreds; a test rig that opens and closes ports may have thousands.
const CAPACITY: usize = 8192;
/// A registration is stale for as long as somebody dials it: a day covers a deployment forgotten over night.
const TTL_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Processes remembered of one listener (a master and its workers share it).
const HOLDERS: usize = 64;

/// Records of one look at a listener with several sockets come within this time.
const LOOK_NS: u64 = 1_000_000_000;
/// How long an answer about a queue holds.
const FRESH_NS: u64 = 2_000_000_000;

/// Who listened at an address last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastListener {
    pub process: Process,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub until_ns: u64,
    pub exit: Option<Exit>,
    /// Who sent the signal that ended it.
    pub killed_by: Option<Process>,
}

/// Address and network namespace.
type Key = (SocketAddr, u32);

#[derive(Clone, Debug, Default)]
struct Entry {
    /// Sockets that listen there now (several with SO_REUSEPORT).
    sockets: Vec<u64>,
    holders: Vec<Process>,
    ceased: Option<Ceased>,
    queue: Option<Queue>,
}

/// How full a listener's queue was when the kernel was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub ktime_ns: u64,
    /// Connections that waited to be accepted.
    pub waiting: u32,
    pub limit: u32,
}

impl Queue {
    /// The kernel's own condition (`sk_acceptq_is_full`): one more than the limit may wait.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.waiting > self.limit
    }
}

#[derive(Clone, Debug)]
struct Ceased {
    ktime_ns: u64,
    by: Option<Process>,
}

/// Start time under which the ports of a tgid are found when only the tgid is known.
const ANY_START: u64 = u64::MAX;

/// The table.
#[derive(Clone, Debug)]
pub struct Listeners {
    known: Bounded<Key, Entry>,
    /// Ports by the process that holds a listener there, with what makes the process itself.
    ports: Bounded<(u32, u64), Vec<u16>>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            known: Bounded::new("listeners", CAPACITY, TTL_NS),
            ports: Bounded::new("listening_processes", CAPACITY, TTL_NS),
        }
    }
}

impl Listeners {
    pub fn changed(&mut self, event: &ListenerChange) {
        let key = (event.address, event.netns);
        let mut entry = self.known.remove(&key).unwrap_or_default();
        entry.sockets.retain(|skaddr| *skaddr != event.skaddr);
        if event.listening {
            entry.sockets.push(event.skaddr);
            entry.ceased = None;
            if let Some(process) = &event.actor {
                self.hold(&mut entry.holders, process, event.address.port(), event.ktime_ns);
            }
        } else if entry.sockets.is_empty() {
            entry.ceased = Some(Ceased { ktime_ns: event.ktime_ns, by: event.actor.clone() });
        }
        self.known.insert(key, entry, event.ktime_ns);
    }

    /// A listener that existed before the start; each process that holds it is told apart.
    pub fn existed(&mut self, existing: &Existing) {
        let key = (existing.tuple.local, existing.tuple.netns);
        let mut entry = self.known.remove(&key).unwrap_or_default();
        if !entry.sockets.contains(&existing.skaddr) {
            entry.sockets.push(existing.skaddr);
        }
        let queue =
            Queue { ktime_ns: existing.ktime_ns, waiting: existing.backlog, limit: existing.backlog_limit };
        // Of several sockets at one address (SO_REUSEPORT) one that is full drops its share of the SYNs.
        let full = entry.queue.is_some_and(|q| q.is_full() && q.ktime_ns + LOOK_NS > existing.ktime_ns);
        if !full || queue.is_full() {
            entry.queue = Some(queue);
        }
        self.hold(&mut entry.holders, &existing.process, existing.tuple.local.port(), existing.ktime_ns);
        self.known.insert(key, entry, existing.ktime_ns);
    }

    /// Whether a listener of this host may be the one at `address`, dialled from `netns`: the address itself, or a
    /// wildcard of any namespace that covers it.
    #[must_use]
    pub fn may_be_at(&self, address: SocketAddr, netns: u32) -> bool {
        self.at(address, netns).next().is_some()
    }

    /// The queue that a SYN to `address` finds, as it was at `now`, with who listens there; None if there is no such
    /// listener here, if it was not asked for, or if several may be meant and not all of them are full.
    #[must_use]
    pub fn full_queue(&self, address: SocketAddr, netns: u32, now: u64) -> Option<(Queue, Option<Process>)> {
        let mut found = None;
        for entry in self.at(address, netns) {
            let queue = entry.queue.filter(|q| q.ktime_ns + FRESH_NS > now && q.is_full())?;
            found = Some((queue, entry.holders.last().cloned()));
        }
        found
    }

    fn at(&self, address: SocketAddr, netns: u32) -> impl Iterator<Item = &Entry> {
        let near = address.ip().is_loopback();
        let covers = move |(local, at): &&Key| {
            local.port() == address.port()
                && (local.ip() == address.ip() || local.ip().is_unspecified())
                && (!near || *at == netns)
        };
        self.known
            .keys()
            .filter(covers)
            .filter_map(|key| self.known.get(key))
            .filter(|e| !e.sockets.is_empty())
    }

    /// Who listened at `address` last, if nobody does now.
    #[must_use]
    pub fn last(&self, address: SocketAddr, netns: u32, processes: &Processes) -> Option<LastListener> {
        let (entry, ceased) = spellings(address)
            .filter_map(|spelling| self.known.get(&(spelling, netns)))
            .filter_map(|entry| Some((entry, entry.ceased.as_ref()?)))
            .max_by_key(|(_, ceased)| ceased.ktime_ns)?;
        let process = ceased.by.clone().or_else(|| entry.holders.last().cloned())?;
        let (exit, killed_by) = (processes.exit_of(&process), processes.killer_of(&process).cloned());
        Some(LastListener { process, until_ns: ceased.ktime_ns, exit, killed_by })
    }

    /// Whether `process`, or its parent, holds a listener at `address`: a worker accepts from its master's socket.
    #[must_use]
    pub fn is_held_by(&self, address: SocketAddr, netns: u32, process: &Process) -> bool {
        spellings(address)
            .filter_map(|spelling| self.known.get(&(spelling, netns)))
            .any(|entry| entry.holders.iter().any(|h| h.is(process) || h.tgid == process.parent_tgid))
    }

    /// Ports on which a process listens, or has: its own, or (a worker's) its parent's.
    #[must_use]
    pub fn ports_of(&self, process: &Process) -> Vec<u16> {
        let own = self.ports.get(&(process.tgid, process.start_boottime)).into_iter().flatten();
        let inherited = self.known_parent_ports(process);
        let mut ports: Vec<u16> = own.copied().chain(inherited).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    pub fn expire(&mut self, now: u64) {
        self.known.expire(now);
        self.ports.expire(now);
    }

    #[must_use]
    pub fn fills(&self) -> [Fill; 2] {
        [self.known.fill(), self.ports.fill()]
    }

    fn hold(&mut self, holders: &mut Vec<Process>, process: &Process, port: u16, now: u64) {
        if holders.len() < HOLDERS && !holders.iter().any(|h| h.is(process)) {
            holders.push(process.clone());
        }
        for key in [(process.tgid, process.start_boottime), (process.tgid, ANY_START)] {
            let mut ports = self.ports.remove(&key).unwrap_or_default();
            if ports.len() < HOLDERS && !ports.contains(&port) {
                ports.push(port);
            }
            self.ports.insert(key, ports, now);
        }
    }

    /// A worker knows its parent's tgid only.
    fn known_parent_ports(&self, process: &Process) -> impl Iterator<Item = u16> {
        self.ports.get(&(process.parent_tgid, ANY_START)).into_iter().flatten().copied()
    }
}

/// The address itself, and the wildcards that cover it.
fn spellings(address: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let port = address.port();
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    [address, v4, v6].into_iter()
}
