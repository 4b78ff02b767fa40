//! Upstreams that nothing happens to any more give their place to others, in the kernel's map and among the labels.
//!
//! As long as there are few, none does: a series that disappears and comes back from 0 is right, but a failure that
//! is its first sample is invisible to `increase()`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tracer_ebpf::wire::{UpstreamCounters, UpstreamKey, outcome, phase};

/// Up to so many upstreams none expires.
pub const KEPT: u64 = 1000;
/// Without events for so long, an upstream expires.
const IDLE: Duration = Duration::from_secs(600);
/// The same for one that never accepted a connection, which may be a port scan's.
const SILENT: Duration = Duration::from_secs(60);
/// The same for one to which connections must be open. (One whose end left no FIN or RST looks open for ever.)
const OPEN: Duration = Duration::from_secs(24 * 3600);

/// Since when nothing has changed.
#[derive(Debug, Default)]
pub struct Expiry {
    seen: HashMap<UpstreamKey, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// A sum of counters that only grow: it stays the same if they do.
    events: u64,
    since_ns: u64,
}

/// What was judged of an upstream: how many aborts, and the label values of their series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub aborts: u64,
    pub series: Vec<Vec<String>>,
}

/// An upstream's series and the entries of the kernel's map that it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    pub upstream: String,
    pub keys: Vec<UpstreamKey>,
}

// === impl Expiry ===

impl Expiry {
    /// Notes what has changed; returns the upstreams that are to expire. All entries with the same label go together or
    /// not at all, since a series must not fall while it lasts. `judged` is by label.
    pub fn look(
        &mut self,
        rows: &[(UpstreamKey, UpstreamCounters)],
        label: impl Fn(&UpstreamKey) -> String,
        judged: &HashMap<String, Judged>,
        now_ns: u64,
    ) -> Vec<Idle> {
        let mut groups: BTreeMap<String, (bool, Vec<UpstreamKey>)> = BTreeMap::new();
        for (key, counters) in rows {
            let upstream = label(key);
            let aborts = judged.get(&upstream).map_or(0, |judged| judged.aborts);
            let idle = self.is_idle(key, counters, aborts, now_ns);
            let (all_idle, keys) = groups.entry(upstream).or_insert((true, Vec::new()));
            *all_idle &= idle;
            keys.push(*key);
        }
        let present: HashSet<_> = rows.iter().map(|(key, _)| *key).collect();
        self.seen.retain(|key, _| present.contains(key));
        let idle = groups.into_iter().filter(|(_, (all_idle, _))| *all_idle);
        idle.map(|(upstream, (_, keys))| Idle { upstream, keys }).collect()
    }

    /// There is no need for places: what is seen next has just changed.
    pub fn forget(&mut self) {
        self.seen = HashMap::new();
    }

    fn is_idle(&mut self, key: &UpstreamKey, counters: &UpstreamCounters, aborts: u64, now_ns: u64) -> bool {
        let events = events(counters).wrapping_add(aborts);
        let seen = self.seen.entry(*key).or_insert(Seen { events, since_ns: now_ns });
        if seen.events != events {
            *seen = Seen { events, since_ns: now_ns };
        }
        let limit = match () {
            () if !has_answered(counters) => SILENT,
            () if has_open(counters) => OPEN,
            () => IDLE,
        };
        u128::from(now_ns.saturating_sub(seen.since_ns)) >= limit.as_nanos()
    }
}

/// Whether it ever accepted a connection, one older than the agent included.
pub fn has_answered(counters: &UpstreamCounters) -> bool {
    let later = |counts: &[u64; phase::COUNT]| counts.iter().skip(phase::UNUSED).any(|count| *count > 0);
    counters.connections[outcome::ESTABLISHED] > 0 || ends(counters).into_iter().any(later)
}

/// Adds what was counted in one place to another.
pub fn add(into: &mut UpstreamCounters, from: &UpstreamCounters) {
    let sum = |into: &mut [u64], from: &[u64]| into.iter_mut().zip(from).for_each(|(i, f)| *i += f);
    sum(&mut into.connections, &from.connections);
    sum(&mut into.resets_sent, &from.resets_sent);
    sum(&mut into.resets_received, &from.resets_received);
    sum(&mut into.fins_sent, &from.fins_sent);
    sum(&mut into.fins_received, &from.fins_received);
    into.unclassified += from.unclassified;
}

/// A connection has one FIN or RST at least, but for those that time out.
fn has_open(counters: &UpstreamCounters) -> bool {
    let ended: u64 = ends(counters).into_iter().flatten().sum();
    counters.connections[outcome::ESTABLISHED] > ended
}

fn events(counters: &UpstreamCounters) -> u64 {
    let ended: u64 = ends(counters).into_iter().flatten().sum();
    counters.connections.iter().sum::<u64>() + ended + counters.unclassified
}

fn ends(counters: &UpstreamCounters) -> [&[u64; phase::COUNT]; 4] {
    [&counters.resets_sent, &counters.resets_received, &counters.fins_sent, &counters.fins_received]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(port: u32, netns: u32) -> UpstreamKey {
        UpstreamKey { port, netns, ..UpstreamKey::default() }
    }

    fn label(key: &UpstreamKey) -> String {
        key.port.to_string()
    }

    fn refused(count: u64) -> UpstreamCounters {
        let mut counters = UpstreamCounters::default();
        counters.connections[outcome::REFUSED] = count;
        counters
    }

    fn served(established: u64, ended: u64) -> UpstreamCounters {
        let mut counters = UpstreamCounters::default();
        counters.connections[outcome::ESTABLISHED] = established;
        counters.fins_received[phase::ANSWERED] = ended;
        counters
    }

    /// The ports that expire when they are looked at again after so many seconds.
    fn expired(
        first: &[(UpstreamKey, UpstreamCounters)],
        again: &[(UpstreamKey, UpstreamCounters)],
        seconds: u64,
    ) -> Vec<String> {
        let mut expiry = Expiry::default();
        assert_eq!(expiry.look(first, label, &HashMap::new(), SECOND), []);
        let idle = expiry.look(again, label, &HashMap::new(), (1 + seconds) * SECOND);
        idle.into_iter().map(|idle| idle.upstream).collect()
    }

    #[test]
    fn what_never_answered_goes_first_and_what_is_open_last() {
        let rows = [(key(1, 0), refused(5)), (key(2, 0), served(3, 3)), (key(3, 0), served(3, 2))];
        assert_eq!(expired(&rows, &rows, 59), [""; 0]);
        assert_eq!(expired(&rows, &rows, 60), ["1"]);
        assert_eq!(expired(&rows, &rows, 600), ["1", "2"]);
        assert_eq!(expired(&rows, &rows, 86_400), ["1", "2", "3"]);
    }

    #[test]
    fn what_changes_stays() {
        assert_eq!(expired(&[(key(1, 0), refused(5))], &[(key(1, 0), refused(6))], 3600), [""; 0]);
        let mut expiry = Expiry::default();
        let rows = [(key(1, 0), refused(5))];
        let judged = |count| HashMap::from([("1".to_owned(), Judged { aborts: count, series: vec![] })]);
        assert_eq!(expiry.look(&rows, label, &judged(1), 0), []);
        assert_eq!(expiry.look(&rows, label, &judged(2), 3600 * SECOND), []);
        assert_eq!(expiry.look(&rows, label, &judged(2), 7200 * SECOND).len(), 1);
    }

    #[test]
    fn one_label_goes_as_a_whole() {
        let first = [(key(1, 7), refused(1)), (key(1, 8), refused(1))];
        let again = [(key(1, 7), refused(1)), (key(1, 8), refused(2))];
        assert_eq!(expired(&first, &again, 3600), [""; 0]);
        assert_eq!(expired(&first, &first, 3600), ["1"]);
    }
}
