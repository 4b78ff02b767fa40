//! Who listens where, who did, until when, and how that ended.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bounded::{Bounded, Fill};
use super::holders::{HOLDERS, Holders};
use super::processes::Processes;
use crate::event::{Existing, Exit, ListenerChange, Process, ProcessId};

/// Addresses remembered. A host has some hundreds; a test rig that opens and closes ports may have thousands.
const CAPACITY: usize = 8192;
/// A registration is stale for as long as somebody dials it: a day covers a deployment forgotten over night.
const TTL_NS: u64 = 24 * 3600 * 1_000_000_000;
/// Sockets remembered of one address (SO_REUSEPORT: one for each worker).
const SOCKETS: usize = 1024;
/// Addresses remembered of one process.
const ADDRESSES: usize = 256;

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

/// Who listens at an address, or did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub process: Option<Process>,
    /// Since when nothing listens there, `CLOCK_MONOTONIC` nanoseconds; None: somebody does.
    pub ceased_ns: Option<u64>,
    /// How that process ended, if it has.
    pub exit: Option<Exit>,
}

/// Address and network namespace.
type Key = (SocketAddr, u32);

#[derive(Clone, Debug, Default)]
struct Entry {
    /// Sockets that listen there now (several with SO_REUSEPORT).
    sockets: Vec<u64>,
    holders: Holders,
    ceased: Option<Ceased>,
    queue: Option<Queue>,
}

/// What a process listens on, or has.
#[derive(Clone, Debug, Default)]
struct Held {
    addresses: Vec<Key>,
    gone: bool,
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

/// The table.
#[derive(Clone, Debug)]
pub struct Listeners {
    known: Bounded<Key, Entry>,
    /// By the process that holds a listener there.
    held: Bounded<ProcessId, Held>,
    /// What found no place of its own: holders of a listener, its sockets, addresses of a process.
    left_out: [u64; 3],
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            known: Bounded::new("listeners", CAPACITY, TTL_NS),
            held: Bounded::new("listening_processes", CAPACITY, TTL_NS),
            left_out: [0; 3],
        }
    }
}

impl Listeners {
    pub fn changed(&mut self, event: &ListenerChange) {
        let key = (event.address, event.netns);
        let mut entry = self.known.remove(&key).unwrap_or_default();
        entry.sockets.retain(|skaddr| *skaddr != event.skaddr);
        if event.listening {
            if entry.sockets.is_empty() {
                entry.holders = Holders::default();
            }
            self.add_socket(&mut entry, event.skaddr);
            entry.ceased = None;
            if let Some(process) = &event.actor {
                self.hold(&mut entry, key, process, event.ktime_ns);
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
            self.add_socket(&mut entry, existing.skaddr);
        }
        let queue =
            Queue { ktime_ns: existing.ktime_ns, waiting: existing.backlog, limit: existing.backlog_limit };
        // Of several sockets at one address (SO_REUSEPORT) one that is full drops its share of the SYNs.
        let full = entry.queue.is_some_and(|q| q.is_full() && q.ktime_ns + LOOK_NS > existing.ktime_ns);
        if !full || queue.is_full() {
            entry.queue = Some(queue);
        }
        self.hold(&mut entry, key, &existing.process, existing.ktime_ns);
        self.known.insert(key, entry, existing.ktime_ns);
    }

    /// A process has ended: it holds no listener any more. Gives the ports of those that are left to nobody known,
    /// as by a program that becomes a daemon: it listens, forks, and ends, and the child goes on.
    pub fn exited(&mut self, process: &Process) -> Vec<u16> {
        let Some(held) = self.held.get_mut(&process.id()) else { return Vec::new() };
        held.gone = true;
        let mut left = Vec::new();
        for key in &held.addresses {
            let Some(entry) = self.known.get_mut(key) else { continue };
            entry.holders.gone(process);
            if !entry.sockets.is_empty() && entry.holders.current().is_none() {
                left.push(key.0.port());
            }
        }
        left
    }

    /// The number of this network namespace is another's now: who listened there has nothing to do with it.
    pub fn forget(&mut self, netns: u32) {
        self.known.retain(|(_, at)| *at != netns);
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
            found = Some((queue, entry.holders.current().cloned()));
        }
        found
    }

    /// The network namespace in which `address`, dialled from `netns`, is listened on; None if several may be meant.
    #[must_use]
    pub fn namespace_of(&self, address: SocketAddr, netns: u32) -> Option<u32> {
        let mut namespaces = self.keys_at(address, netns).map(|(_, at)| *at);
        let first = namespaces.next()?;
        namespaces.all(|other| other == first).then_some(first)
    }

    fn at(&self, address: SocketAddr, netns: u32) -> impl Iterator<Item = &Entry> {
        self.keys_at(address, netns).filter_map(|key| self.known.get(key))
    }

    /// Where somebody listens now.
    fn keys_at(&self, address: SocketAddr, netns: u32) -> impl Iterator<Item = &Key> {
        let near = address.ip().is_loopback();
        let covers = move |(local, at): &&Key| {
            local.port() == address.port()
                && (local.ip() == address.ip() || local.ip().is_unspecified())
                && (!near || *at == netns)
        };
        let listens = |key: &&Key| self.known.get(key).is_some_and(|entry| !entry.sockets.is_empty());
        self.known.keys().filter(covers).filter(listens)
    }

    /// Who listened at `address` last, if nobody does now.
    #[must_use]
    pub fn last(&self, address: SocketAddr, netns: u32, processes: &Processes) -> Option<LastListener> {
        let (entry, ceased) = spellings(address)
            .filter_map(|spelling| self.known.get(&(spelling, netns)))
            .filter_map(|entry| Some((entry, entry.ceased.as_ref()?)))
            .max_by_key(|(_, ceased)| ceased.ktime_ns)?;
        // A kernel thread closes for a process that has let go before.
        let by = ceased.by.as_ref().filter(|process| !process.kernel_thread);
        let process = by.or_else(|| entry.holders.last())?.clone();
        let (exit, killed_by) = (processes.exit_of(&process), processes.killer_of(&process).cloned());
        Some(LastListener { process, until_ns: ceased.ktime_ns, exit, killed_by })
    }

    /// Who listens at `address`, or did, as far as that is certain: the address itself in the namespace of whoever
    /// dialled it, else a wildcard there.
    #[must_use]
    pub fn at_address(&self, address: SocketAddr, netns: u32, processes: &Processes) -> Option<Listening> {
        let entries = || spellings(address).filter_map(|spelling| self.known.get(&(spelling, netns)));
        if let Some(entry) = entries().find(|entry| !entry.sockets.is_empty()) {
            let process = entry.holders.current().cloned();
            return Some(Listening { process, ceased_ns: None, exit: None });
        }
        let LastListener { process, until_ns, exit, .. } = self.last(address, netns, processes)?;
        Some(Listening { process: Some(process), ceased_ns: Some(until_ns), exit })
    }

    /// Whether `process`, or its parent, holds a listener at `address`: a worker accepts from its master's socket.
    #[must_use]
    pub fn is_held_by(&self, address: SocketAddr, netns: u32, process: &Process) -> bool {
        spellings(address)
            .filter_map(|spelling| self.known.get(&(spelling, netns)))
            .any(|entry| entry.holders.include(process))
    }

    /// Ports on which a process listens, or has: its own, or (a worker's) its parent's.
    #[must_use]
    pub fn ports_of(&self, process: &Process) -> Vec<u16> {
        let held = [process.id(), process.parent_id()].map(|id| self.held.get(&id));
        let addresses = held.into_iter().flatten().flat_map(|held| &held.addresses);
        let mut ports: Vec<u16> = addresses.map(|(address, _)| address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// What is listened on, and who lives, is kept for as long as that is so.
    pub fn expire(&mut self, now: u64) {
        self.known.expire_but(now, |entry| !entry.sockets.is_empty());
        self.held.expire_but(now, |held| !held.gone);
    }

    #[must_use]
    pub fn fills(&self) -> [Fill; 5] {
        // Of what each listener or process has a bound of its own for, the one that is fullest.
        let fullest = |of: fn(&Entry) -> usize| self.known.values().map(of).max().unwrap_or_default();
        let addresses = self.held.values().map(|held| held.addresses.len()).max().unwrap_or_default();
        let fills = [
            ("listener_holders", fullest(|entry| entry.holders.len()), HOLDERS),
            ("listener_sockets", fullest(|entry| entry.sockets.len()), SOCKETS),
            ("listener_addresses", addresses, ADDRESSES),
        ];
        let mut left_out = self.left_out.into_iter();
        let [holders, sockets, addresses] = fills.map(|(table, entries, capacity)| {
            let evicted = left_out.next().unwrap_or_default();
            Fill { table, entries, capacity, evicted }
        });
        [self.known.fill(), self.held.fill(), holders, sockets, addresses]
    }

    fn hold(&mut self, entry: &mut Entry, key: Key, process: &Process, now: u64) {
        if !entry.holders.seen(process, now) {
            self.left_out[0] += 1;
        }
        let mut held = self.held.remove(&process.id()).unwrap_or_default();
        if !held.addresses.contains(&key) {
            if held.addresses.len() < ADDRESSES {
                held.addresses.push(key);
            } else {
                self.left_out[2] += 1;
            }
        }
        self.held.insert(process.id(), held, now);
    }

    /// The one that has been there for longest gives way.
    fn add_socket(&mut self, entry: &mut Entry, skaddr: u64) {
        if entry.sockets.len() == SOCKETS {
            entry.sockets.remove(0);
            self.left_out[1] += 1;
        }
        entry.sockets.push(skaddr);
    }
}

/// The address itself, and the wildcards that cover it.
fn spellings(address: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let port = address.port();
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    [address, v4, v6].into_iter()
}
