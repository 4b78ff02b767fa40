//! When the losses were: counted by interval, in any order, with intervals that grow with the span.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Timeline;

/// Intervals while counting.
const CAPACITY: usize = 1024;
/// Intervals that are shown.
const SHOWN: i64 = 60;

/// The count.
#[derive(Clone, Debug)]
pub struct Counted {
    /// By time divided by `seconds`.
    losses: BTreeMap<i64, u64>,
    seconds: i64,
}

impl Default for Counted {
    fn default() -> Self {
        Self { losses: BTreeMap::new(), seconds: 1 }
    }
}

impl Counted {
    pub fn add(&mut self, time: Timestamp) {
        *self.losses.entry(time.as_second().div_euclid(self.seconds)).or_default() += 1;
        while self.losses.len() > CAPACITY {
            self.widen(2);
        }
    }

    pub fn finish(mut self) -> Timeline {
        let Some((first, last)) = self.ends() else { return Timeline::default() };
        self.widen((last - first + 1).div_euclid(SHOWN) + 1);
        let Some((first, last)) = self.ends() else { return Timeline::default() };
        let losses = (first..=last).map(|at| self.losses.get(&at).copied().unwrap_or_default()).collect();
        let from = Timestamp::from_second(first.saturating_mul(self.seconds)).ok();
        Timeline { from, seconds: self.seconds.unsigned_abs(), losses }
    }

    fn ends(&self) -> Option<(i64, i64)> {
        Some((*self.losses.first_key_value()?.0, *self.losses.last_key_value()?.0))
    }

    /// Makes the intervals so many times as long.
    fn widen(&mut self, times: i64) {
        for (at, losses) in std::mem::take(&mut self.losses) {
            *self.losses.entry(at.div_euclid(times)).or_default() += losses;
        }
        self.seconds = self.seconds.saturating_mul(times);
    }
}
