//! Bounds on label values that come from outside.
//!
//! A scanner, or a process that renames itself, must not be able to fill the memory of whoever scrapes. The
//! first values keep their places; what comes later is counted as `other`, so sums stay right.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

/// Values of the label `upstream`.
pub const MAX_UPSTREAMS: usize = 2000;
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
    pub fn upstream(&self, value: &str) -> String {
        self.upstreams.admit(value)
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
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if values.known.contains(value) {
            return value.to_owned();
        }
        if values.known.len() < self.limit {
            values.known.insert(value.to_owned());
            return value.to_owned();
        }
        let hash = values.hasher.hash_one(value);
        let is_new = !values.beyond.contains(&hash);
        if is_new {
            values.overflow += 1;
            if values.beyond.len() < REMEMBERED {
                values.beyond.insert(hash);
            }
        }
        OTHER.to_owned()
    }

    fn overflow(&self) -> u64 {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).overflow
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
}
