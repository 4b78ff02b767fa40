//! TCP connects that failed a moment ago, so that what the system call says of them is not told again.

use std::net::SocketAddr;

use super::bounded::{Bounded, Fill};
use crate::event::{ConnectError, SocketEnd, Target};

const CAPACITY: usize = 4096;
/// A program may ask for the error of a connect that failed by calling connect(2) again, when it is told that the
/// socket is ready. The next socket at the same address may fail in its own right.
const AGAIN_NS: u64 = 200_000_000;

/// The table.
#[derive(Clone, Debug)]
pub struct Connects {
    /// By the address of the socket.
    failed: Bounded<u64, SocketAddr>,
}

impl Default for Connects {
    fn default() -> Self {
        Self { failed: Bounded::new("failed_connects", CAPACITY, AGAIN_NS) }
    }
}

impl Connects {
    /// A connect failed after its SYN.
    pub fn failed(&mut self, end: &SocketEnd) {
        self.failed.insert(end.skaddr, end.tuple.peer, end.ktime_ns);
    }

    /// Whether this error is that of a connect which was told already.
    pub fn is_told(&mut self, error: &ConnectError) -> bool {
        self.failed.expire(error.ktime_ns);
        let Some(Target::Tcp(peer)) = &error.target else { return false };
        self.failed.get(&error.skaddr) == Some(peer)
    }

    pub fn expire(&mut self, now: u64) {
        self.failed.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.failed.fill()
    }
}
