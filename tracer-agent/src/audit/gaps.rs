//! Gaps, and what explains them.

use serde::{Deserialize, Serialize};

use super::{Counts, is_seen};
use crate::event::{Counter, Sight};

/// What explains a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// AttemptFails: peers gave handshakes up that this host had not completed (EmbryonicRsts). No socket, no event.
    HandshakesGivenUp,
    /// OutRsts: the kernel counted RSTs that it found no memory for (TCPAbortFailed).
    NoMemory,
    /// TCPAbortOnMemory: the kernel dropped orphans without a RST.
    OrphansDropped,
    /// OutRsts: this kernel tells no program of RSTs that no socket sends.
    NoHook,
    /// OutRsts, seen but not counted: RSTs that found no route, or were not to be sent after all.
    NotSent,
    /// The kernel skipped a program, since it was running on that CPU already.
    Skipped,
}

impl Why {
    /// As it is spelled in labels and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HandshakesGivenUp => "handshakes_given_up",
            Self::NoMemory => "no_memory",
            Self::OrphansDropped => "orphans_dropped",
            Self::NoHook => "no_hook",
            Self::NotSent => "not_sent",
            Self::Skipped => "skipped",
        }
    }
}

/// A part of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What the kernel counted and rstrace did not see; negative: the other way round.
    pub count: i64,
    /// None: not explained.
    pub why: Option<Why>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub counter: Counter,
    pub kernel: u64,
    /// None where no hook can see it on this kernel.
    pub seen: Option<u64>,
    /// Empty if both sides agree.
    pub gaps: Vec<Gap>,
}

/// A line for each counter, in the order of [`Counter::ALL`].
#[must_use]
pub fn lines(counts: &Counts, sight: &Sight) -> Vec<Line> {
    Counter::ALL.into_iter().map(|counter| line(counter, counts, sight)).collect()
}

fn line(counter: Counter, counts: &Counts, sight: &Sight) -> Line {
    let kernel = counts.kernel.get(counter);
    let seen = counts.seen.get(counter as usize).copied().filter(|_| can_be_seen(counter, sight));
    let difference = seen.map_or(0, |seen| signed(kernel) - signed(seen));
    Line { counter, kernel, seen, gaps: gaps(counter, difference, counts, sight) }
}

fn can_be_seen(counter: Counter, sight: &Sight) -> bool {
    match counter {
        Counter::OutRsts | Counter::TCPAbortOnClose | Counter::TCPAbortOnData => sight.sees_resets,
        Counter::TCPAbortOnLinger | Counter::TCPAbortOnMemory => {
            sight.sees_resets && sight.knows_abort_reasons
        }
        _ => is_seen(counter),
    }
}

/// The difference, in parts: what the kernel's other counters explain first.
fn gaps(counter: Counter, difference: i64, counts: &Counts, sight: &Sight) -> Vec<Gap> {
    if difference < 0 {
        let why = (counter == Counter::OutRsts).then_some(Why::NotSent);
        return vec![Gap { count: difference, why }];
    }
    let at_most = |counter| signed(counts.kernel.get(counter));
    let explained = match counter {
        Counter::AttemptFails => Some((Why::HandshakesGivenUp, at_most(Counter::EmbryonicRsts))),
        Counter::OutRsts if !sight.sees_refusals => Some((Why::NoHook, difference)),
        Counter::OutRsts => Some((Why::NoMemory, at_most(Counter::TCPAbortFailed))),
        Counter::TCPAbortOnMemory => Some((Why::OrphansDropped, difference)),
        _ => None,
    };
    let mut rest = difference;
    let mut parts = Vec::new();
    for (why, limit) in explained.into_iter().chain([(Why::Skipped, signed(sight.skipped))]) {
        let count = rest.min(limit);
        rest -= count;
        if count > 0 {
            parts.push(Gap { count, why: Some(why) });
        }
    }
    if rest > 0 {
        parts.push(Gap { count: rest, why: None });
    }
    parts
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sight =
        Sight { sees_resets: true, sees_refusals: true, knows_abort_reasons: true, skipped: 0 };

    fn counts(kernel: &[(Counter, u64)], seen: &[(Counter, u64)]) -> Counts {
        let mut counts = Counts::default();
        for (counter, count) in kernel {
            counts.kernel.0[*counter as usize] = *count;
        }
        for (counter, count) in seen {
            counts.seen[*counter as usize] = *count;
        }
        counts
    }

    /// The gaps of one counter.
    fn of(counter: Counter, counts: &Counts, sight: &Sight) -> Vec<(i64, Option<Why>)> {
        let line = lines(counts, sight).swap_remove(counter as usize);
        assert_eq!(line.counter, counter);
        line.gaps.iter().map(|gap| (gap.count, gap.why)).collect()
    }

    #[test]
    fn sides_that_agree_have_no_gap() {
        let agreed = counts(&[(Counter::OutRsts, 7)], &[(Counter::OutRsts, 7)]);
        assert!(lines(&agreed, &ALL).iter().all(|line| line.gaps.is_empty()));
    }

    #[test]
    fn handshakes_that_peers_gave_up_explain_as_many_as_there_were() {
        let failed = |given_up| {
            counts(
                &[(Counter::AttemptFails, 12), (Counter::EmbryonicRsts, given_up)],
                &[(Counter::AttemptFails, 2)],
            )
        };
        let why = Some(Why::HandshakesGivenUp);
        assert_eq!(of(Counter::AttemptFails, &failed(15), &ALL), [(10, why)]);
        assert_eq!(of(Counter::AttemptFails, &failed(9), &ALL), [(9, why), (1, None)]);
        assert_eq!(of(Counter::AttemptFails, &failed(0), &ALL), [(10, None)]);
    }

    #[test]
    fn what_no_other_counter_explains_is_a_gap_unless_programs_were_skipped() {
        let missed = counts(&[(Counter::EstabResets, 5)], &[(Counter::EstabResets, 2)]);
        assert_eq!(of(Counter::EstabResets, &missed, &ALL), [(3, None)]);
        let skipped = Sight { skipped: 2, ..ALL };
        assert_eq!(of(Counter::EstabResets, &missed, &skipped), [(2, Some(Why::Skipped)), (1, None)]);
    }

    #[test]
    fn more_seen_than_counted_is_a_gap_too() {
        let more = counts(&[], &[(Counter::OutRsts, 1), (Counter::EstabResets, 4)]);
        assert_eq!(of(Counter::OutRsts, &more, &ALL), [(-1, Some(Why::NotSent))]);
        assert_eq!(of(Counter::EstabResets, &more, &ALL), [(-4, None)]);
    }

    #[test]
    fn what_no_hook_can_see_is_the_kernels_alone() {
        let counted = counts(&[(Counter::TCPAbortOnMemory, 3), (Counter::ListenOverflows, 2)], &[]);
        let old = Sight { knows_abort_reasons: false, ..ALL };
        let line = |sight, counter| lines(&counted, sight).swap_remove(counter as usize);
        assert_eq!(line(&old, Counter::TCPAbortOnMemory).seen, None);
        assert_eq!(line(&old, Counter::TCPAbortOnMemory).gaps, []);
        assert_eq!(line(&ALL, Counter::TCPAbortOnMemory).gaps[0].why, Some(Why::OrphansDropped));
        assert_eq!(
            (line(&ALL, Counter::ListenOverflows).kernel, line(&ALL, Counter::ListenOverflows).seen),
            (2, None)
        );
        let refused = counts(&[(Counter::OutRsts, 9)], &[(Counter::OutRsts, 1)]);
        let deaf = Sight { sees_refusals: false, ..ALL };
        assert_eq!(of(Counter::OutRsts, &refused, &deaf), [(8, Some(Why::NoHook))]);
    }
}
