//! Processes that matter: how they ended, and who signalled them.

use super::bounded::{Bounded, Fill};
use crate::event::{Exit, OomVictim, Process, ProcessExit, SignalSent};

/// Processes remembered. A story is told within a second; how the last listener ended is kept with the listener.
const CAPACITY: usize = 4096;
const TTL_NS: u64 = 600 * 1_000_000_000;
/// Signals remembered of one process: a stop is often TERM, then KILL.
const SIGNALS: usize = 4;

/// A signal that reached a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signalled {
    pub ktime_ns: u64,
    pub signal: u32,
    pub sender: Option<Process>,
    /// The kernel raised it itself.
    pub by_kernel: bool,
}

/// A process by what does not wrap.
type Key = (u32, u64);

#[derive(Clone, Debug, Default)]
struct Known {
    exit: Option<Exit>,
    signals: Vec<Signalled>,
    oom: bool,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Processes {
    known: Bounded<Key, Known>,
}

impl Default for Processes {
    fn default() -> Self {
        Self { known: Bounded::new("processes", CAPACITY, TTL_NS) }
    }
}

impl Processes {
    pub fn exited(&mut self, event: &ProcessExit) {
        self.change(&event.process, event.ktime_ns, |known| known.exit = event.process.exit);
    }

    pub fn signalled(&mut self, event: &SignalSent) {
        self.change(&event.target, event.ktime_ns, |known| {
            if known.signals.len() == SIGNALS {
                known.signals.remove(0);
            }
            known.signals.push(Signalled {
                ktime_ns: event.ktime_ns,
                signal: event.signal,
                sender: event.sender.clone(),
                by_kernel: event.by_kernel,
            });
        });
    }

    pub fn chosen_by_oom(&mut self, event: &OomVictim) {
        self.change(&event.process, event.ktime_ns, |known| known.oom = true);
    }

    /// How a process ended, if it did: from itself while it was dying, else from its exit.
    #[must_use]
    pub fn exit_of(&self, process: &Process) -> Option<Exit> {
        let known = self.known.get(&key(process));
        let mut exit = process.exit.or_else(|| known.and_then(|k| k.exit))?;
        exit.oom |= exit.signal.is_some() && known.is_some_and(|k| k.oom);
        Some(exit)
    }

    /// Signals that reached a process, oldest first.
    #[must_use]
    pub fn signals_to(&self, process: &Process) -> &[Signalled] {
        self.known.get(&key(process)).map_or(&[], |known| &known.signals)
    }

    pub fn expire(&mut self, now: u64) {
        self.known.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.known.fill()
    }

    fn change(&mut self, process: &Process, now: u64, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.remove(&key(process)).unwrap_or_default();
        change(&mut known);
        self.known.insert(key(process), known, now);
    }
}

fn key(process: &Process) -> Key {
    (process.tgid, process.start_boottime)
}
