//! Processes that matter: how they ended, and who signalled them.

use super::bounded::{Bounded, Fill};
use crate::event::{Exit, OomVictim, Process, ProcessExit, ProcessId, SignalSent};

/// Processes remembered. A story is told within a second; how the last listener ended is kept with the listener.
const CAPACITY: usize = 4096;
const TTL_NS: u64 = 600 * 1_000_000_000;
/// Signals remembered of one process: a stop is often TERM, then KILL.
const SIGNALS: usize = 4;
const KILL: u32 = 9;

/// A signal that reached a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signalled {
    pub ktime_ns: u64,
    pub signal: u32,
    pub sender: Option<Process>,
    /// The kernel raised it itself.
    pub by_kernel: bool,
    /// The sender was the parent of the process then.
    pub by_parent: bool,
}

/// How a process ended, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    pub exit: Exit,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub ktime_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    exited: Option<Exited>,
    signals: Vec<Signalled>,
    oom: bool,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Processes {
    known: Bounded<ProcessId, Known>,
}

impl Default for Processes {
    fn default() -> Self {
        Self { known: Bounded::new("processes", CAPACITY, TTL_NS) }
    }
}

impl Signalled {
    /// The other process that did this to `target`; None: the kernel, itself, or not to be known. The first process
    /// of a pid namespace takes all others of it along when it ends, and there the kernel sends the KILL for it.
    #[must_use]
    pub fn sent_by_another(&self, target: &Process) -> Option<&Process> {
        let sender = self.sender.as_ref().filter(|sender| !sender.is(target))?;
        let takes_along = self.signal == KILL && sender.exit.is_some();
        (!self.by_kernel || takes_along).then_some(sender)
    }
}

impl Processes {
    pub fn exited(&mut self, event: &ProcessExit) {
        let ktime_ns = event.ktime_ns;
        self.change(&event.process, ktime_ns, |known| {
            known.exited = event.process.exit.map(|exit| Exited { exit, ktime_ns });
        });
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
                // Both live now, so that no other process can have the parent's tgid.
                by_parent: event.sender.as_ref().is_some_and(|s| s.tgid == event.target.parent_tgid),
            });
        });
    }

    pub fn chosen_by_oom(&mut self, event: &OomVictim) {
        self.change(&event.process, event.ktime_ns, |known| known.oom = true);
    }

    /// How a process ended, if it did: from itself while it was dying, else from its exit.
    #[must_use]
    pub fn exit_of(&self, process: &Process) -> Option<Exit> {
        let known = self.known.get(&process.id());
        let mut exit = process.exit.or_else(|| known.and_then(|k| k.exited).map(|exited| exited.exit))?;
        exit.oom |= exit.signal.is_some() && known.is_some_and(|k| k.oom);
        Some(exit)
    }

    /// The same with its time, if its exit was seen.
    #[must_use]
    pub fn exited_of(&self, process: &Process) -> Option<Exited> {
        self.known.get(&process.id()).and_then(|known| known.exited)
    }

    /// Signals that reached a process, oldest first.
    #[must_use]
    pub fn signals_to(&self, process: &Process) -> &[Signalled] {
        self.known.get(&process.id()).map_or(&[], |known| &known.signals)
    }

    /// Signals that reached the parent of a process, oldest first.
    #[must_use]
    pub fn signals_to_parent(&self, process: &Process) -> &[Signalled] {
        self.known.get(&process.parent_id()).map_or(&[], |known| &known.signals)
    }

    /// The other process whose signal ended this one.
    #[must_use]
    pub fn killer_of(&self, process: &Process) -> Option<&Process> {
        let signal = u32::from(self.exit_of(process)?.signal?);
        let last = self.signals_to(process).iter().rev().find(|signalled| signalled.signal == signal)?;
        last.sent_by_another(process)
    }

    pub fn expire(&mut self, now: u64) {
        self.known.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.known.fill()
    }

    fn change(&mut self, process: &Process, now: u64, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.remove(&process.id()).unwrap_or_default();
        change(&mut known);
        self.known.insert(process.id(), known, now);
    }
}
