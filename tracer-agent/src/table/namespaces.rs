//! Which network namespace an inode number stands for: the kernel gives the lowest free one to the next that is made,
//! often within a second, and what was learned of the one before would pass for its own.

use super::bounded::{Bounded, Fill};

/// Namespaces remembered; a host has some hundreds.
const CAPACITY: usize = 4096;
/// As long as anything that is remembered of a namespace.
const TTL_NS: u64 = 24 * 3600 * 1_000_000_000;

/// The table.
#[derive(Clone, Debug)]
pub struct Namespaces {
    cookies: Bounded<u32, u64>,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self { cookies: Bounded::new("network_namespaces", CAPACITY, TTL_NS) }
    }
}

impl Namespaces {
    /// The namespace `netns` has this cookie at `now`; true if another had that number before.
    pub fn seen(&mut self, netns: u32, cookie: u64, now: u64) -> bool {
        self.cookies.insert(netns, cookie, now).is_some_and(|before| before != cookie)
    }

    pub fn expire(&mut self, now: u64) {
        self.cookies.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.cookies.fill()
    }
}
