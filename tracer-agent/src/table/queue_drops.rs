//! Handshakes that were dropped since a queue of their listener was full: the kernel fires no hook for them and only
//! counts them, for all listeners of a network namespace together.

use super::bounded::{Bounded, Fill};
use crate::event::QueueDrops;

/// Looks remembered in which something had been dropped.
const CAPACITY: usize = 1024;
/// A connect lasts some two minutes with the kernel's usual number of SYNs.
const TTL_NS: u64 = 180_000_000_000;

/// The table.
#[derive(Clone, Debug)]
pub struct Drops {
    /// By network namespace and time of the look.
    looks: Bounded<(u32, u64), QueueDrops>,
}

impl Default for Drops {
    fn default() -> Self {
        Self { looks: Bounded::new("queue_drops", CAPACITY, TTL_NS) }
    }
}

impl Drops {
    pub fn counted(&mut self, drops: QueueDrops) {
        self.looks.insert((drops.netns, drops.ktime_ns), drops, drops.ktime_ns);
    }

    /// What was dropped in a namespace, summed over the looks that tell of any moment from `from_ns` until `until_ns`.
    #[must_use]
    pub fn between(&self, netns: u32, from_ns: u64, until_ns: u64) -> Option<QueueDrops> {
        let touches = |drops: &&QueueDrops| {
            drops.netns == netns && drops.ktime_ns > from_ns && drops.since_ns < until_ns
        };
        self.looks.values().filter(touches).copied().reduce(QueueDrops::and)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.looks.fill().entries == 0
    }

    /// The number of this network namespace is another's now.
    pub fn forget(&mut self, netns: u32) {
        self.looks.retain(|(at, _)| *at != netns);
    }

    pub fn expire(&mut self, now: u64) {
        self.looks.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.looks.fill()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(netns: u32, since_ns: u64, ktime_ns: u64, overflows: u64) -> QueueDrops {
        QueueDrops { since_ns, ktime_ns, netns, overflows, drops: overflows, handshakes_full: 0 }
    }

    #[test]
    fn only_looks_that_tell_of_that_time_and_namespace_are_summed() {
        let mut table = Drops::default();
        for look in [drops(1, 0, 10, 1), drops(1, 10, 20, 2), drops(1, 20, 30, 4), drops(2, 0, 30, 8)] {
            table.counted(look);
        }
        assert_eq!(table.between(1, 12, 25), Some(drops(1, 10, 30, 6)));
        assert_eq!(table.between(1, 30, 40), None);
        assert_eq!(table.between(3, 0, 40), None);
        table.forget(1);
        assert_eq!((table.between(1, 0, 40), table.between(2, 0, 40)), (None, Some(drops(2, 0, 30, 8))));
        table.expire(30 + TTL_NS);
        assert!(table.is_empty());
    }
}
