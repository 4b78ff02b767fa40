//! How many failures of a log were explained, and why the others were not.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::proxy_log::{JoinedBy, NotJoined, Outcome, Pair};

/// Counts lines and failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) lines: u64,
    /// Lines of this log about something else.
    pub(super) other: u64,
    /// Lines of no such log.
    pub(super) unknown: u64,
    pub(super) joined: u64,
    /// Of those.
    pub(super) joined_by_time: u64,
    pub(super) log_alone: u64,
    pub(super) not_joined: BTreeMap<NotJoined, u64>,
    /// Failures before `--since` or after `--until`.
    pub(super) outside: u64,
    /// Failures that other filters leave out.
    pub(super) filtered: u64,
    /// A failure came without the address of its upstream.
    pub(super) nameless: bool,
    pub(super) memory_begins: Option<Timestamp>,
}

impl Tally {
    pub(super) fn count(&mut self, Pair { failure, outcome }: &Pair) {
        self.nameless |= failure.class.has_verdict() && failure.target().is_none();
        match outcome {
            Outcome::Joined { by, .. } => {
                self.joined += 1;
                self.joined_by_time += u64::from(*by == JoinedBy::Time);
            }
            Outcome::LogAlone(_) => self.log_alone += 1,
            Outcome::NotJoined(why) => *self.not_joined.entry(*why).or_default() += 1,
        }
    }

    pub(super) fn failures(&self) -> u64 {
        self.joined + self.log_alone + self.without_verdict()
    }

    pub(super) fn without_verdict(&self) -> u64 {
        self.not_joined.values().sum()
    }
}
