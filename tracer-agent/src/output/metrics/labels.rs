//! Bounds on label values that come from outside.
//!
//! A scanner, or a process that renames itself, must not be able to fill the memory of whoever scrapes. The
//! first values keep their places; what comes later is counted as `other`, so sums stay right.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values of the label `upstream`.
pub const MAX_UPSTREAMS: usize = 2000;
/// Of these, values of upstreams that stand in the configuration of a gateway.
const MAX_RESERVED: usize = 1000;
/// Of these, values of upstreams that never accepted a connection.
const MAX_SILENT_UPSTREAMS: usize = 1500;
const MAX_LISTENERS: usize = 500;
const MAX_SCOPES: usize = 500;
const MAX_COMMS: usize = 200;

/// What stands for all values beyond a bound.
pub const OTHER: &str = "other";

/// Values beyond a bound that are remembered, so that each is counted once. Further ones are counted too, but
/// again whenever they come.
const REMEMBERED: usize = 8192;

/// The labels that are open.
#[derive(Debug)]
pub struct Labels {
    upstreams: Capped,
    listeners: Capped,
    scopes: Capped,
    comms: Capped,
}

#[derive(Debug)]
struct Capped {
    label: &'static str,
    limit: usize,
    values: Mutex<Values>,
}

#[derive(Debug, Default)]
struct Values {
    known: HashSet<String>,
    /// Values that have a place kept for them, and those of them that have not come yet.
    reserved: HashSet<String>,
    awaited: HashSet<String>,
    hasher: RandomState,
    /// Hashes of values that found no place.
    beyond: HashSet<u64>,
    overflow: u64,
}

// === impl Labels ===

impl Default for Labels {
    fn default() -> Self {
        Self {
            upstreams: Capped::new("upstream", MAX_UPSTREAMS),
            listeners: Capped::new("listener", MAX_LISTENERS),
            scopes: Capped::new("scope", MAX_SCOPES),
            comms: Capped::new("comm", MAX_COMMS),
        }
    }
}

impl Labels {
    /// The last places are kept for those that are reserved, and for those that `answered`, so that a port scan cannot
    /// take them.
    pub fn upstream(&self, value: &str, answered: bool) -> String {
        self.upstreams.admit_within(value, if answered { MAX_UPSTREAMS } else { MAX_SILENT_UPSTREAMS })
    }

    /// Keeps a place for each of these; for some of them, if they are too many. Who has taken one keeps it.
    pub fn reserve_upstreams(&self, values: impl Iterator<Item = String>) {
        self.upstreams.reserve(values.take(MAX_RESERVED).collect());
    }

    /// Gives back the place of an upstream.
    pub fn forget_upstream(&self, value: &str) {
        self.upstreams.forget(value);
    }

    /// Whether it is counted as `other`.
    pub fn is_other_upstream(&self, value: &str) -> bool {
        self.upstreams.is_beyond(value)
    }

    pub fn listener(&self, value: &str) -> String {
        self.listeners.admit(value)
    }

    pub fn scope(&self, value: &str) -> String {
        self.scopes.admit(value)
    }

    pub fn comm(&self, value: &str) -> String {
        self.comms.admit(value)
    }

    /// Each label, and how many of its values were counted as `other`.
    pub fn overflow(&self) -> [(&'static str, u64); 4] {
        [&self.upstreams, &self.listeners, &self.scopes, &self.comms].map(|c| (c.label, c.overflow()))
    }
}

// === impl Capped ===

impl Capped {
    fn new(label: &'static str, limit: usize) -> Self {
        Self { label, limit, values: Mutex::default() }
    }

    fn admit(&self, value: &str) -> String {
        self.admit_within(value, self.limit)
    }

    fn admit_within(&self, value: &str, limit: usize) -> String {
        let mut values = self.values();
        if values.known.contains(value) {
            return value.to_owned();
        }
        let hash = values.hasher.hash_one(value);
        let limit = if values.awaited.remove(value) {
            self.limit
        } else {
            limit.min(self.limit - values.awaited.len())
        };
        // What was counted as `other` stays there even if a place comes free: that sum must not fall.
        if values.known.len() < limit && !values.beyond.contains(&hash) {
            values.known.insert(value.to_owned());
            return value.to_owned();
        }
        let is_new = !values.beyond.contains(&hash);
        if is_new {
            values.overflow += 1;
            if values.beyond.len() < REMEMBERED {
                values.beyond.insert(hash);
            }
        }
        OTHER.to_owned()
    }

    fn reserve(&self, wanted: HashSet<String>) {
        let mut values = self.values();
        values.awaited = wanted.difference(&values.known).cloned().collect();
        values.reserved = wanted;
    }

    fn forget(&self, value: &str) {
        let mut values = self.values();
        let hash = values.hasher.hash_one(value);
        values.known.remove(value);
        if values.reserved.contains(value) {
            values.awaited.insert(value.to_owned());
        }
        values.beyond.remove(&hash);
    }

    fn is_beyond(&self, value: &str) -> bool {
        let values = self.values();
        values.beyond.contains(&values.hasher.hash_one(value))
    }

    fn overflow(&self) -> u64 {
        self.values().overflow
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_keep_their_places_and_the_rest_is_counted_once() {
        let capped = Capped::new("upstream", 2);
        assert_eq!(capped.admit("a"), "a");
        assert_eq!(capped.admit("b"), "b");
        for _ in 0..3 {
            assert_eq!(capped.admit("c"), OTHER);
            assert_eq!(capped.admit("d"), OTHER);
        }
        assert_eq!(capped.admit("a"), "a");
        assert_eq!(capped.overflow(), 2);
    }

    #[test]
    fn a_place_that_comes_free_is_for_those_who_were_never_other() {
        let capped = Capped::new("upstream", 1);
        assert_eq!((capped.admit("a"), capped.admit("b")), ("a".to_owned(), OTHER.to_owned()));
        assert!(capped.is_beyond("b") && !capped.is_beyond("a"));
        capped.forget("a");
        assert_eq!((capped.admit("b"), capped.admit("c")), (OTHER.to_owned(), "c".to_owned()));
        capped.forget("b");
        capped.forget("c");
        assert_eq!(capped.admit("b"), "b");
    }

    #[test]
    fn those_that_never_answered_cannot_take_the_last_places() {
        let labels = Labels::default();
        for port in 0..MAX_UPSTREAMS {
            labels.upstream(&port.to_string(), false);
        }
        assert_eq!(labels.upstream("real", true), "real");
        assert_eq!(labels.upstream("scanned", false), OTHER);
        assert_eq!(labels.upstream("0", false), "0");
    }

    #[test]
    fn configured_upstreams_have_their_places_whoever_came_before() {
        let labels = Labels::default();
        labels.reserve_upstreams(["a", "b"].into_iter().map(str::to_owned));
        assert_eq!(labels.upstream("a", false), "a");
        for port in 0..MAX_UPSTREAMS {
            labels.upstream(&port.to_string(), true);
        }
        assert_eq!(labels.upstream("late", true), OTHER);
        assert_eq!(labels.upstream("b", false), "b");
        labels.reserve_upstreams(["c"].into_iter().map(str::to_owned));
        assert_eq!(labels.upstream("c", true), OTHER, "every place is taken");
    }

    #[test]
    fn reserved_places_are_bounded() {
        let labels = Labels::default();
        labels.reserve_upstreams((0..MAX_UPSTREAMS).map(|port| port.to_string()));
        assert_eq!(labels.upstream("other", true), "other");
    }
}
