//! How often something happened in the last minutes, in fixed buckets.

use jiff::Timestamp;

/// Buckets of each ring.
const BUCKETS: usize = 60;
/// Seconds of a bucket of the long ring: 15 minutes in all.
const LONG: i64 = 15;

/// Minutes that a sparkline shows.
pub const SPARK_MINUTES: i64 = 15;

/// Events of the last minute by the second, and of the last 15 minutes by 15 seconds.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    seconds: Ring<1>,
    quarters: Ring<LONG>,
}

/// How many events there were of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    pub last_10s: u32,
    pub last_minute: u32,
}

impl Pace {
    pub fn add(&mut self, at: Timestamp) {
        self.seconds.add(at.as_second());
        self.quarters.add(at.as_second());
    }

    /// The current second belongs to both.
    #[must_use]
    pub fn rate(&self, now: Timestamp) -> Rate {
        let now = now.as_second();
        Rate { last_10s: self.seconds.sum(now - 9, now), last_minute: self.seconds.sum(now - 59, now) }
    }

    /// The last 15 minutes in so many parts, oldest first. Parts begin at fixed moments, so that a bar does not change
    /// while it moves to the left. `parts` divides 60.
    #[must_use]
    pub fn parts(&self, now: Timestamp, parts: usize) -> Vec<u32> {
        let parts = i64::try_from(parts.clamp(1, BUCKETS)).unwrap_or(1);
        let width = SPARK_MINUTES * 60 / parts;
        let newest = now.as_second().div_euclid(width);
        ((newest - parts + 1)..=newest)
            .map(|part| self.quarters.sum(part * width, part * width + width - 1))
            .collect()
    }
}

/// The last [`BUCKETS`] buckets of so many seconds each.
#[derive(Clone, Debug)]
struct Ring<const SECONDS: i64> {
    /// Number of the newest bucket, counted from 1970.
    newest: i64,
    counts: [u32; BUCKETS],
}

impl<const SECONDS: i64> Default for Ring<SECONDS> {
    fn default() -> Self {
        Self { newest: i64::MIN / 2, counts: [0; BUCKETS] }
    }
}

impl<const SECONDS: i64> Ring<SECONDS> {
    fn add(&mut self, second: i64) {
        let number = second.div_euclid(SECONDS);
        if number > self.newest {
            let gap = (number - self.newest).min(BUCKETS as i64);
            for empty in (number - gap + 1)..=number {
                self.counts[place(empty)] = 0;
            }
            self.newest = number;
        }
        if self.holds(number) {
            let count = &mut self.counts[place(number)];
            *count = count.saturating_add(1);
        }
    }

    /// Events of the buckets from that of one second to that of another, both included.
    fn sum(&self, from: i64, to: i64) -> u32 {
        let from = from.div_euclid(SECONDS).max(self.newest - BUCKETS as i64 + 1);
        let to = to.div_euclid(SECONDS).min(self.newest);
        (from..=to).fold(0_u32, |sum, number| sum.saturating_add(self.counts[place(number)]))
    }

    fn holds(&self, number: i64) -> bool {
        number <= self.newest && number > self.newest - BUCKETS as i64
    }
}

fn place(number: i64) -> usize {
    usize::try_from(number.rem_euclid(BUCKETS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_only() {
        let mut pace = Pace::default();
        for second in [0, 30, 52, 59, 59] {
            pace.add(at(second));
        }
        assert_eq!(pace.rate(at(59)), Rate { last_10s: 3, last_minute: 5 });
        assert_eq!(pace.rate(at(60)), Rate { last_10s: 3, last_minute: 4 });
        assert_eq!(pace.rate(at(62)), Rate { last_10s: 2, last_minute: 4 });
        assert_eq!(pace.rate(at(500)), Rate::default());
    }

    #[test]
    fn what_comes_late_is_counted_where_it_belongs_and_what_is_too_old_nowhere() {
        let mut pace = Pace::default();
        pace.add(at(100));
        pace.add(at(95));
        pace.add(at(-100_000));
        assert_eq!(pace.rate(at(100)), Rate { last_10s: 2, last_minute: 2 });
        assert_eq!(pace.parts(at(100), 10).iter().sum::<u32>(), 2);
    }

    #[test]
    fn parts_cover_fifteen_minutes_and_move_as_a_whole() {
        let mut pace = Pace::default();
        // 1,800,000,000 is a multiple of 90: a part of 90 s begins there.
        for second in [0, 89, 90, 809] {
            pace.add(at(second));
        }
        assert_eq!(pace.parts(at(810), 10), [2, 1, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(pace.parts(at(899), 10), [2, 1, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(pace.parts(at(900), 10), [1, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        for parts in [10, 15, 20, 30, 60] {
            assert_eq!(pace.parts(at(899), parts).iter().sum::<u32>(), 4, "{parts}");
        }
    }
}
