//! The processes that hold a listener: who called listen(2), and whom the kernel names when it is asked.
//!
//! A listener moves without a sign (a fork, a descriptor sent to another process), so a holder is as good as the last
//! time that it was seen with it.

use crate::event::Process;

/// Processes remembered of one listener (a master and its workers share it).
pub const HOLDERS: usize = 256;

/// Of one listener.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    known: Vec<Holder>,
}

#[derive(Clone, Debug)]
struct Holder {
    process: Process,
    seen_ns: u64,
    gone: bool,
}

impl Holders {
    /// `process` holds the listener at `now`; false if there is no place for one more. Those that are gone make room.
    pub fn seen(&mut self, process: &Process, now: u64) -> bool {
        if let Some(holder) = self.known.iter_mut().find(|holder| holder.process.is(process)) {
            holder.process.clone_from(process);
            holder.seen_ns = now;
            return true;
        }
        if self.known.len() == HOLDERS {
            let Some(gone) = self.known.iter().position(|holder| holder.gone) else { return false };
            self.known.remove(gone);
        }
        self.known.push(Holder { process: process.clone(), seen_ns: now, gone: false });
        true
    }

    /// `process` has ended.
    pub fn gone(&mut self, process: &Process) {
        for holder in self.known.iter_mut().filter(|holder| holder.process.is(process)) {
            holder.gone = true;
        }
    }

    /// Who was seen with it last and has not ended since.
    #[must_use]
    pub fn current(&self) -> Option<&Process> {
        self.known.iter().filter(|holder| !holder.gone).max_by_key(|h| h.seen_ns).map(|h| &h.process)
    }

    /// The same, whether it has ended or not.
    #[must_use]
    pub fn last(&self) -> Option<&Process> {
        self.current().or_else(|| self.known.iter().max_by_key(|h| h.seen_ns).map(|h| &h.process))
    }

    /// Whether `process`, or its parent, is or was one of them: a worker accepts from its master's socket.
    #[must_use]
    pub fn include(&self, process: &Process) -> bool {
        self.known.iter().any(|h| h.process.is(process) || process.is_child_of(&h.process))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
