//! The ledger: for each namespace where both sides stood when it was first met, and where they stand now.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::gaps::lines;
use super::{Counts, Namespace, Report, Seen};
use crate::event::{Mib, QueueDrops, Sight};

/// Looks for a moment in which nothing happens, before a busy one is taken as the beginning.
const PATIENCE: u32 = 50;
/// Namespaces that have ended with a gap, of which more than their sum is kept.
const ENDED: usize = 64;

/// A namespace that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Its number among all that there have been.
    pub cookie: u64,
    /// Inode number.
    pub netns: u32,
    /// A thread is in it, so that the kernel's counters can be read.
    pub has_thread: bool,
    pub seen: Seen,
}

/// A look at the kernel's counters, and at what the programs had seen before and after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub before: Seen,
    pub kernel: Mib,
    pub after: Seen,
}

/// All namespaces that are compared.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    namespaces: HashMap<u64, Entry>,
    /// Sums over those that are there no more.
    ended: Counts,
    ended_with_gap: VecDeque<Namespace>,
    unread: usize,
    /// Handshakes dropped since they were last taken: one entry at most for a namespace that is compared.
    drops: BTreeMap<u64, QueueDrops>,
}

#[derive(Clone, Debug)]
struct Entry {
    netns: u32,
    /// Where both sides stood at first.
    base: Option<(u64, Counts)>,
    now: Counts,
    read_ns: u64,
    looks: u32,
}

// === impl Ledger ===

impl Ledger {
    /// Notes which namespaces there are; returns those whose counters should be read, the most urgent first: never read,
    /// something was seen since, longest ago.
    pub fn meet(&mut self, present: &[Present], sight: &Sight) -> Vec<u64> {
        let there: HashSet<_> = present.iter().map(|namespace| namespace.cookie).collect();
        let gone: Vec<_> = self.namespaces.keys().filter(|cookie| !there.contains(cookie)).copied().collect();
        for cookie in gone {
            self.end(cookie, sight);
        }
        self.unread = present.iter().filter(|namespace| !namespace.has_thread).count();
        let mut wanted: Vec<_> = present.iter().filter(|namespace| namespace.has_thread).collect();
        wanted.sort_by_key(|namespace| match self.namespaces.get(&namespace.cookie) {
            Some(entry) if entry.base.is_some() => (1, entry.now.seen == namespace.seen, entry.read_ns),
            _ => (0, false, 0),
        });
        for namespace in &wanted {
            self.namespaces.entry(namespace.cookie).or_insert_with(|| Entry::new(namespace.netns));
        }
        wanted.into_iter().map(|namespace| namespace.cookie).collect()
    }

    /// Takes a reading; returns whether another one should follow at once, since this one was no beginning yet.
    pub fn take(&mut self, cookie: u64, reading: &Reading, now_ns: u64, sight: &Sight) -> bool {
        let Some(entry) = self.namespaces.get_mut(&cookie) else { return false };
        let falls = entry.base.is_some() && entry.counts(reading).since(&entry.now).is_none();
        if falls {
            // It is not the one that it was: what was counted stays, and it begins anew.
            let netns = entry.netns;
            self.end(cookie, sight);
            self.namespaces.insert(cookie, Entry::new(netns));
            return true;
        }
        let before = (entry.read_ns, entry.now.kernel);
        let is_read_before = entry.looks > 0;
        let again = entry.take(reading, now_ns);
        let since = (before.0, &before.1);
        if is_read_before
            && let Some(drops) = QueueDrops::between(entry.netns, since, (now_ns, &reading.kernel))
        {
            self.drops.entry(cookie).and_modify(|sum| *sum = sum.and(drops)).or_insert(drops);
        }
        again
    }

    /// The handshakes that were dropped since the last call, by namespace; none where none was.
    pub fn take_drops(&mut self) -> Vec<QueueDrops> {
        std::mem::take(&mut self.drops).into_values().collect()
    }

    #[must_use]
    pub fn report(&self, sight: &Sight) -> Report {
        let mut totals = self.ended;
        let mut namespaces: Vec<_> = self.ended_with_gap.iter().cloned().collect();
        for entry in self.namespaces.values() {
            if let Some((since_ns, counts)) = entry.since_base() {
                totals.add(&counts);
                namespaces.push(entry.namespace(since_ns, &counts, false, sight));
            }
        }
        namespaces.sort_by_key(|namespace| (namespace.netns, namespace.since_ns));
        Report { totals: lines(&totals, sight), namespaces, unread: self.unread }
    }

    fn end(&mut self, cookie: u64, sight: &Sight) {
        let Some(entry) = self.namespaces.remove(&cookie) else { return };
        self.drops.remove(&cookie);
        let Some((since_ns, counts)) = entry.since_base() else { return };
        self.ended.add(&counts);
        let namespace = entry.namespace(since_ns, &counts, true, sight);
        if namespace.lines.iter().any(|line| !line.gaps.is_empty()) {
            if self.ended_with_gap.len() == ENDED {
                self.ended_with_gap.pop_front();
            }
            self.ended_with_gap.push_back(namespace);
        }
    }
}

// === impl Entry ===

impl Entry {
    fn new(netns: u32) -> Self {
        Self { netns, base: None, now: Counts::default(), read_ns: 0, looks: 0 }
    }

    fn take(&mut self, reading: &Reading, now_ns: u64) -> bool {
        let counts = self.counts(reading);
        let is_quiet = reading.before == reading.after && counts == self.now;
        if self.base.is_none() {
            self.looks += 1;
            // One event is counted at two moments, so a beginning is right only if nothing happens around it.
            if self.looks > 1 && is_quiet || self.looks > PATIENCE {
                self.base = Some((now_ns, counts));
            }
        }
        self.now = counts;
        self.read_ns = now_ns;
        self.base.is_none()
    }

    /// What was seen at the moment of the reading lies between what had been seen before and after it: of these the
    /// value is taken that comes nearest to the kernel's.
    fn counts(&self, reading: &Reading) -> Counts {
        let mut counts = Counts { kernel: reading.kernel, seen: reading.after };
        let base = self.base.map(|(_, base)| base).unwrap_or_default();
        for (index, seen) in counts.seen.iter_mut().enumerate() {
            let counted = reading.kernel.0[index].saturating_sub(base.kernel.0[index]);
            let (low, high) = (reading.before[index], reading.after[index]);
            *seen = (base.seen[index] + counted).min(high).max(low.min(high));
        }
        counts
    }

    fn since_base(&self) -> Option<(u64, Counts)> {
        let (since_ns, base) = self.base?;
        Some((since_ns, self.now.since(&base)?))
    }

    fn namespace(&self, since_ns: u64, counts: &Counts, has_ended: bool, sight: &Sight) -> Namespace {
        Namespace {
            netns: self.netns,
            since_ns,
            until_ns: self.read_ns,
            has_ended,
            lines: lines(counts, sight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Counter;

    const SIGHT: Sight =
        Sight { sees_resets: true, sees_refusals: true, knows_abort_reasons: true, skipped: 0 };
    const OUT_RSTS: usize = Counter::OutRsts as usize;

    fn seen(count: u64) -> Seen {
        let mut seen = Seen::default();
        seen[OUT_RSTS] = count;
        seen
    }

    fn reading(before: u64, kernel: u64, after: u64) -> Reading {
        let mut mib = Mib::default();
        mib.0[OUT_RSTS] = kernel;
        Reading { before: seen(before), kernel: mib, after: seen(after) }
    }

    fn present(cookie: u64, count: u64) -> Present {
        Present { cookie, netns: 7, has_thread: true, seen: seen(count) }
    }

    /// A ledger that knows the namespace 1, which began with 100 counted and 3 seen.
    fn begun() -> Ledger {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.meet(&[present(1, 3)], &SIGHT), [1]);
        assert!(ledger.take(1, &reading(3, 100, 3), 10, &SIGHT));
        assert!(!ledger.take(1, &reading(3, 100, 3), 11, &SIGHT));
        ledger
    }

    /// What both sides counted in all, and the gap of the first namespace.
    fn told(ledger: &Ledger) -> (u64, Option<u64>, i64) {
        let report = ledger.report(&SIGHT);
        let total = &report.totals[OUT_RSTS];
        let gaps = report.namespaces.first().map_or(&[][..], |namespace| &namespace.lines[OUT_RSTS].gaps);
        (total.kernel, total.seen, gaps.iter().map(|gap| gap.count).sum())
    }

    #[test]
    fn only_what_comes_after_the_beginning_is_compared() {
        let mut ledger = begun();
        assert_eq!(told(&ledger), (0, Some(0), 0));
        ledger.take(1, &reading(8, 105, 8), 20, &SIGHT);
        assert_eq!(told(&ledger), (5, Some(5), 0));
        ledger.take(1, &reading(8, 107, 8), 30, &SIGHT);
        assert_eq!(told(&ledger), (7, Some(5), 2));
        let namespace = &ledger.report(&SIGHT).namespaces[0];
        assert_eq!((namespace.netns, namespace.since_ns, namespace.until_ns), (7, 11, 30));
    }

    #[test]
    fn dropped_handshakes_are_told_once_with_the_time_of_the_look_before() {
        let with_drops = |overflows| {
            let mut reading = reading(3, 100, 3);
            reading.kernel.0[Counter::ListenOverflows as usize] = overflows;
            reading
        };
        let mut ledger = Ledger::default();
        ledger.meet(&[present(1, 3)], &SIGHT);
        ledger.take(1, &with_drops(50), 10, &SIGHT);
        assert_eq!(ledger.take_drops(), [], "counted before the first look");
        ledger.take(1, &with_drops(52), 20, &SIGHT);
        ledger.take(1, &with_drops(52), 30, &SIGHT);
        ledger.take(1, &with_drops(55), 40, &SIGHT);
        let expected =
            QueueDrops { since_ns: 10, ktime_ns: 40, netns: 7, overflows: 5, drops: 0, handshakes_full: 0 };
        assert_eq!(ledger.take_drops(), [expected]);
        assert_eq!(ledger.take_drops(), []);
        ledger.take(1, &with_drops(56), 50, &SIGHT);
        ledger.meet(&[], &SIGHT);
        assert_eq!(ledger.take_drops(), [], "the namespace has gone, and its number may be another's");
    }

    #[test]
    fn it_begins_when_nothing_happens() {
        let mut ledger = Ledger::default();
        ledger.meet(&[present(1, 0)], &SIGHT);
        assert!(ledger.take(1, &reading(3, 100, 4), 1, &SIGHT));
        assert!(ledger.take(1, &reading(4, 101, 4), 2, &SIGHT));
        assert!(ledger.report(&SIGHT).namespaces.is_empty());
        assert!(!ledger.take(1, &reading(4, 101, 4), 3, &SIGHT));
        assert_eq!(ledger.report(&SIGHT).namespaces[0].since_ns, 3);
    }

    #[test]
    fn one_that_is_never_quiet_begins_all_the_same() {
        let mut ledger = Ledger::default();
        ledger.meet(&[present(1, 0)], &SIGHT);
        let looks = (1..1000).find(|n| !ledger.take(1, &reading(*n, 100 + n, n + 1), *n, &SIGHT));
        assert_eq!(looks, Some(u64::from(PATIENCE) + 1));
    }

    #[test]
    fn what_happens_during_a_look_is_no_gap() {
        let mut ledger = begun();
        for kernel in 105..=109 {
            ledger.take(1, &reading(8, kernel, 12), 20, &SIGHT);
            assert_eq!(told(&ledger).2, 0, "{kernel}");
        }
        ledger.take(1, &reading(12, 111, 14), 30, &SIGHT);
        assert_eq!(told(&ledger).2, 0);
        ledger.take(1, &reading(14, 120, 14), 40, &SIGHT);
        assert_eq!(told(&ledger).2, 9);
    }

    #[test]
    fn sums_stay_when_a_namespace_has_gone_and_its_gap_too() {
        let mut ledger = begun();
        ledger.take(1, &reading(8, 105, 8), 20, &SIGHT);
        assert_eq!(ledger.meet(&[], &SIGHT), [0; 0]);
        assert_eq!((told(&ledger), ledger.namespaces.len()), ((5, Some(5), 0), 0));
        assert!(ledger.report(&SIGHT).namespaces.is_empty());
        // The next one with the same inode number is another.
        ledger.meet(&[present(2, 0)], &SIGHT);
        ledger.take(2, &reading(0, 0, 0), 30, &SIGHT);
        ledger.take(2, &reading(0, 0, 0), 30, &SIGHT);
        ledger.take(2, &reading(1, 3, 1), 40, &SIGHT);
        ledger.meet(&[], &SIGHT);
        assert_eq!(told(&ledger), (8, Some(6), 2));
        assert!(ledger.report(&SIGHT).namespaces[0].has_ended);
    }

    #[test]
    fn a_counter_that_falls_is_another_namespaces() {
        let mut ledger = begun();
        ledger.take(1, &reading(8, 105, 8), 20, &SIGHT);
        assert!(ledger.take(1, &reading(8, 2, 8), 30, &SIGHT));
        ledger.take(1, &reading(8, 2, 8), 31, &SIGHT);
        ledger.take(1, &reading(8, 2, 8), 32, &SIGHT);
        ledger.take(1, &reading(9, 3, 9), 40, &SIGHT);
        assert_eq!(told(&ledger), (6, Some(6), 0));
    }

    #[test]
    fn the_most_urgent_are_read_first_and_those_without_a_thread_never() {
        let mut ledger = begun();
        ledger.meet(&[present(1, 3), present(2, 0)], &SIGHT);
        for _ in 0..2 {
            ledger.take(2, &reading(0, 0, 0), 5, &SIGHT);
        }
        let empty = Present { has_thread: false, ..present(4, 9) };
        assert_eq!(ledger.meet(&[present(1, 4), present(2, 0), present(3, 0), empty], &SIGHT), [3, 1, 2]);
        assert_eq!(ledger.report(&SIGHT).unread, 1);
    }

    #[test]
    fn ended_namespaces_are_bounded() {
        let mut ledger = Ledger::default();
        for cookie in 0..100 {
            ledger.meet(&[present(cookie, 0)], &SIGHT);
            ledger.take(cookie, &reading(0, 0, 0), 1, &SIGHT);
            ledger.take(cookie, &reading(0, 0, 0), 1, &SIGHT);
            ledger.take(cookie, &reading(0, 1, 0), 2, &SIGHT);
        }
        ledger.meet(&[], &SIGHT);
        assert_eq!(ledger.report(&SIGHT).namespaces.len(), ENDED);
        assert_eq!(told(&ledger).0, 100);
    }
}
