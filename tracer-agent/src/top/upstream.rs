//! One upstream of the board: what was lost there, how, and its last verdicts.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::pace::Pace;
use crate::output::VerdictView;
use crate::verdict::{By, Cause, Impact};

/// Verdicts by what they did to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    /// The request, its answer or the connection for it was lost.
    pub lost: u64,
    /// Two readings remain.
    pub unsure: u64,
    /// Nobody was harmed; seen only with `--all`.
    pub harmless: u64,
}

/// What is remembered of one upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub counts: Counts,
    pub pace: Pace,
    /// Time of the first and of the last verdict.
    pub first: Timestamp,
    pub last: Timestamp,
    /// The verdict that the row shows: the last one that harmed, if any did.
    pub latest: Arc<VerdictView>,
    /// How often which cause; both lists are closed, so this is bounded.
    endings: Vec<(By, Cause, u64)>,
    /// The last verdicts, oldest first.
    kept: VecDeque<Arc<VerdictView>>,
}

impl Counts {
    pub fn add(&mut self, impact: Impact) {
        match impact {
            Impact::ConnectFailed | Impact::RequestLost | Impact::ResponseTruncated => self.lost += 1,
            Impact::Unknown => self.unsure += 1,
            Impact::None => self.harmless += 1,
        }
    }

    #[must_use]
    pub fn all(self) -> u64 {
        self.lost + self.unsure + self.harmless
    }
}

impl Upstream {
    /// Of its first verdict.
    #[must_use]
    pub fn new(view: &Arc<VerdictView>) -> Self {
        Self {
            counts: Counts::default(),
            pace: Pace::default(),
            first: view.time,
            last: view.time,
            latest: Arc::clone(view),
            endings: Vec::new(),
            kept: VecDeque::new(),
        }
    }

    /// Counts a verdict and keeps it among the last `keep`.
    pub fn take(&mut self, view: Arc<VerdictView>, keep: usize) {
        let harms = view.impact != Impact::None;
        self.counts.add(view.impact);
        self.first = self.first.min(view.time);
        self.last = self.last.max(view.time);
        match self.endings.iter_mut().find(|(by, cause, _)| (*by, *cause) == (view.by, view.cause)) {
            Some((_, _, count)) => *count += 1,
            None => self.endings.push((view.by, view.cause, 1)),
        }
        if harms {
            self.pace.add(view.time);
        }
        if harms || self.latest.impact == Impact::None {
            self.latest = Arc::clone(&view);
        }
        self.kept.push_back(view);
        self.keep(keep);
    }

    /// Forgets the oldest verdicts until no more than `most` are kept.
    pub fn keep(&mut self, most: usize) {
        let over = self.kept.len().saturating_sub(most);
        self.kept.drain(..over);
    }

    /// The last verdicts, newest first.
    pub fn verdicts(&self) -> impl Iterator<Item = &Arc<VerdictView>> {
        self.kept.iter().rev()
    }

    /// Verdicts that are counted and no longer kept.
    #[must_use]
    pub fn fell_out(&self) -> u64 {
        self.counts.all() - self.kept.len() as u64
    }

    /// Who ended connections and why, the most frequent first.
    #[must_use]
    pub fn endings(&self) -> Vec<(By, Cause, u64)> {
        let mut endings = self.endings.clone();
        endings.sort_by(|a, b| b.2.cmp(&a.2).then(a.1.cmp(&b.1)));
        endings
    }

    /// Different causes.
    #[must_use]
    pub fn causes(&self) -> usize {
        self.endings.len()
    }
}
