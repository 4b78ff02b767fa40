//! Connections of one upstream that its side ended at one instant with requests pending, and whether connects to it
//! are refused since: even where no process can be seen, that is how one looks that died.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::bounded::{Bounded, Fill};

/// Upstreams remembered; one is forgotten a minute after its last failure.
const UPSTREAMS: usize = 2048;
const TTL_NS: u64 = 60 * 1_000_000_000;
/// What ends within this time ended together.
const INSTANT_NS: u64 = 50_000_000;
/// Where failures come more often than this, two of them within an instant are a coincidence.
const QUIET_NS: u64 = 10_000_000_000;
/// Instants remembered of one upstream.
const INSTANTS: usize = 8;

/// Address and network namespace.
type Key = (SocketAddr, u32);

/// What ended together with one connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Connections, the one asked about included.
    pub connections: u32,
    /// Ages of their requests, youngest and oldest; None where none is known.
    pub ages_ms: Option<(f64, f64)>,
    /// Nothing had failed there shortly before, so that it is no coincidence.
    pub after_quiet: bool,
    /// A connect to this upstream was refused since.
    pub refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct Instant {
    first_ns: u64,
    connections: u32,
    ages_ms: Option<(f64, f64)>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    instants: VecDeque<Instant>,
    refused_ns: Option<u64>,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Bursts {
    known: Bounded<Key, Entry>,
}

impl Default for Bursts {
    fn default() -> Self {
        Self { known: Bounded::new("bursts", UPSTREAMS, TTL_NS) }
    }
}

impl Bursts {
    /// The upstream's side ended a connection whose request, of this age, was pending.
    pub fn ended(&mut self, upstream: Key, ktime_ns: u64, age_ms: Option<f64>) {
        let mut entry = self.known.remove(&upstream).unwrap_or_default();
        match entry.instants.iter_mut().rev().find(|i| i.covers(ktime_ns)) {
            Some(instant) => instant.add(age_ms),
            None => {
                if entry.instants.len() == INSTANTS {
                    entry.instants.pop_front();
                }
                let ages_ms = age_ms.map(|age| (age, age));
                entry.instants.push_back(Instant { first_ns: ktime_ns, connections: 1, ages_ms });
            }
        }
        self.known.insert(upstream, entry, ktime_ns);
    }

    /// A connect was refused.
    pub fn refused(&mut self, upstream: Key, ktime_ns: u64) {
        let mut entry = self.known.remove(&upstream).unwrap_or_default();
        entry.refused_ns = Some(ktime_ns);
        self.known.insert(upstream, entry, ktime_ns);
    }

    /// What ended together with the connection that ended at `ktime_ns`.
    #[must_use]
    pub fn around(&self, upstream: &Key, ktime_ns: u64) -> Option<Burst> {
        let entry = self.known.get(upstream)?;
        let at = entry.instants.iter().rposition(|i| i.covers(ktime_ns))?;
        let instant = entry.instants.get(at)?;
        let before = at.checked_sub(1).and_then(|before| entry.instants.get(before));
        Some(Burst {
            connections: instant.connections,
            ages_ms: instant.ages_ms,
            after_quiet: before.is_none_or(|before| before.first_ns + QUIET_NS < instant.first_ns),
            refused: entry.refused_ns.is_some_and(|refused| refused >= instant.first_ns),
        })
    }

    /// The number of this network namespace is another's now.
    pub fn forget(&mut self, netns: u32) {
        self.known.retain(|(_, at)| *at != netns);
    }

    pub fn expire(&mut self, now: u64) {
        self.known.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.known.fill()
    }
}

impl Instant {
    /// The ring's order across CPUs is not exact, so an end may be a little older than the first.
    fn covers(&self, ktime_ns: u64) -> bool {
        self.first_ns.abs_diff(ktime_ns) <= INSTANT_NS
    }

    fn add(&mut self, age_ms: Option<f64>) {
        self.connections = self.connections.saturating_add(1);
        self.ages_ms = match (self.ages_ms, age_ms) {
            (Some((youngest, oldest)), Some(age)) => Some((youngest.min(age), oldest.max(age))),
            (known, age) => known.or_else(|| age.map(|age| (age, age))),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn upstream() -> Key {
        ("10.0.0.2:80".parse().expect("an address"), 1)
    }

    #[test]
    fn what_ends_within_an_instant_is_one_burst() {
        let mut bursts = Bursts::default();
        for (ktime_ns, age_ms) in [(100 * SECOND, 900.0), (100 * SECOND + 49_000_000, 20.0)] {
            bursts.ended(upstream(), ktime_ns, Some(age_ms));
        }
        bursts.ended(upstream(), 100 * SECOND + 60_000_000, Some(1.0));
        let burst = bursts.around(&upstream(), 100 * SECOND).expect("a burst");
        let expected =
            Burst { connections: 2, ages_ms: Some((20.0, 900.0)), after_quiet: true, refused: false };
        assert_eq!(burst, expected);
        let next = bursts.around(&upstream(), 100 * SECOND + 60_000_000).expect("the next one");
        assert_eq!((next.connections, next.after_quiet), (1, false));
        assert_eq!(bursts.around(&("10.0.0.3:80".parse().expect("an address"), 1), 100 * SECOND), None);
    }

    #[test]
    fn only_a_later_refusal_belongs_to_it() {
        let mut bursts = Bursts::default();
        bursts.refused(upstream(), 99 * SECOND);
        bursts.ended(upstream(), 100 * SECOND, None);
        let refused = |bursts: &Bursts| bursts.around(&upstream(), 100 * SECOND).map(|b| b.refused);
        assert_eq!(refused(&bursts), Some(false));
        bursts.refused(upstream(), 100 * SECOND + 1);
        assert_eq!(refused(&bursts), Some(true));
    }

    #[test]
    fn a_minute_later_it_is_forgotten() {
        let mut bursts = Bursts::default();
        bursts.ended(upstream(), 100 * SECOND, None);
        bursts.expire(160 * SECOND);
        assert_eq!(bursts.around(&upstream(), 100 * SECOND), None);
        assert_eq!(bursts.fill().entries, 0);
    }
}
