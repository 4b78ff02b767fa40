//! What has ended and waits for its story: the other end's record, a RST's reason, the exit that explains it may
//! all arrive a little later.

use std::collections::VecDeque;

use super::bounded::Fill;
use super::lookups::Lookup;
use crate::event::{ConnectError, SocketEnd, UnixEnd};

/// Ends that wait at once. When it is full the oldest is judged early, with what is known: nothing is lost.
const CAPACITY: usize = 8192;
/// How long a story may take to arrive. The exit of a process comes before its sockets' ends, the other side's
/// record within a round trip on this host; what takes longest is the client's leg closed after the upstream's.
pub const SETTLE_NS: u64 = 200_000_000;

/// Something that gets one verdict at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Socket(SocketEnd),
    /// A name that did not resolve. It has waited in a table of its own.
    Lookup(Lookup),
    Connect(ConnectError),
    Unix(UnixEnd),
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    ends: VecDeque<Ended>,
    judged_early: u64,
}

impl Ended {
    /// When the kernel saw it, `CLOCK_MONOTONIC` nanoseconds.
    #[must_use]
    pub fn ktime_ns(&self) -> u64 {
        match self {
            Self::Socket(end) => end.ktime_ns,
            Self::Lookup(lookup) => lookup.failed_ns(),
            Self::Connect(error) => error.ktime_ns,
            Self::Unix(end) => end.ktime_ns,
        }
    }

    fn due_ns(&self) -> u64 {
        self.ktime_ns().saturating_add(SETTLE_NS)
    }
}

impl Waiting {
    /// Lets an end wait; returns the oldest if too many wait.
    pub fn push(&mut self, ended: Ended) -> Option<Ended> {
        self.ends.push_back(ended);
        if self.ends.len() <= CAPACITY {
            return None;
        }
        self.judged_early += 1;
        self.ends.pop_front()
    }

    /// The next end that has waited long enough at `now`.
    pub fn settled(&mut self, now: u64) -> Option<Ended> {
        let due = self.ends.front().is_some_and(|end| end.due_ns() <= now);
        if due { self.ends.pop_front() } else { None }
    }

    /// When the next end is due.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.ends.front().map(Ended::due_ns)
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill { table: "waiting", entries: self.ends.len(), capacity: CAPACITY, evicted: self.judged_early }
    }
}
