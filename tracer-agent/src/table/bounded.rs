//! A map with a bound: when it is full, the entry that was written first gives way, and is counted.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How full a table is, for /metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub table: &'static str,
    pub entries: usize,
    pub capacity: usize,
    pub evicted: u64,
}

/// A bounded map in the order of writing. An entry also expires `ttl_ns` after it was last written.
#[derive(Clone, Debug)]
pub struct Bounded<K, V> {
    name: &'static str,
    capacity: usize,
    ttl_ns: u64,
    entries: HashMap<K, (u64, V)>,
    /// Keys in the order of writing; an older mention of a key that was written again is skipped.
    order: VecDeque<(u64, K)>,
    evicted: u64,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    #[must_use]
    pub fn new(name: &'static str, capacity: usize, ttl_ns: u64) -> Self {
        Self { name, capacity, ttl_ns, entries: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// The keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// The values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// Drops the entries whose key is none of those to be kept.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| keep(key));
    }

    /// Writes an entry at `now`; returns the value that it replaces.
    pub fn insert(&mut self, key: K, value: V, now: u64) -> Option<V> {
        self.order.push_back((now, key.clone()));
        let old = self.entries.insert(key, (now, value));
        while self.entries.len() > self.capacity || self.order.len() > 2 * self.capacity {
            if self.drop_oldest() {
                self.evicted += 1;
            }
        }
        old.map(|(_, value)| value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Forgets what was last written `ttl_ns` or longer before `now`.
    pub fn expire(&mut self, now: u64) {
        self.expire_but(now, |_| false);
    }

    /// The same, but keeps what `lives` as if it were written now.
    pub fn expire_but(&mut self, now: u64, lives: impl Fn(&V) -> bool) {
        while self.order.front().is_some_and(|(written, _)| written.saturating_add(self.ttl_ns) <= now) {
            let Some((written, key)) = self.order.pop_front() else { return };
            let Some((last, value)) = self.entries.get_mut(&key).filter(|(last, _)| *last == written) else {
                continue;
            };
            if lives(value) {
                *last = now;
                self.order.push_back((now, key));
            } else {
                self.entries.remove(&key);
            }
        }
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill { table: self.name, entries: self.entries.len(), capacity: self.capacity, evicted: self.evicted }
    }

    /// Drops the oldest mention of a key; true if an entry went with it.
    fn drop_oldest(&mut self) -> bool {
        let Some((written, key)) = self.order.pop_front() else { return false };
        let stale = self.entries.get(&key).is_some_and(|(last, _)| *last == written);
        stale && self.entries.remove(&key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_gives_way_and_is_counted() {
        let mut table = Bounded::new("t", 2, 100);
        for (now, key) in [(1, "a"), (2, "b"), (3, "c")] {
            table.insert(key, now, now);
        }
        assert_eq!((table.get(&"a"), table.get(&"c")), (None, Some(&3)));
        assert_eq!(table.fill(), Fill { table: "t", entries: 2, capacity: 2, evicted: 1 });
    }

    #[test]
    fn writing_again_prolongs_a_life() {
        let mut table = Bounded::new("t", 9, 10);
        table.insert("a", 1, 0);
        table.insert("a", 2, 8);
        table.expire(12);
        assert_eq!(table.get(&"a"), Some(&2));
        table.expire(18);
        assert_eq!(table.get(&"a"), None);
    }

    proptest! {
        #[test]
        fn never_grows_past_its_bound(keys in proptest::collection::vec(0_u8..40, 0..300)) {
            let mut table = Bounded::new("t", 8, 50);
            for (now, key) in (0..).zip(keys) {
                table.insert(key, now, now);
                prop_assert!(table.entries.len() <= 8 && table.order.len() <= 16);
                prop_assert_eq!(table.get(&key), Some(&now));
            }
        }
    }
}
