//! A row of the table, and the order of rows.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::json;

use super::board::Key;
use super::pace::Rate;
use super::upstream::Upstream;
use crate::output::state::UpstreamState;
use crate::output::text::printable_json;
use crate::output::view::SCHEMA;

/// One upstream at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub key: &'a Key,
    pub upstream: &'a Upstream,
    /// None if the agent has learned nothing of it.
    pub learned: Option<&'a UpstreamState>,
    pub rate: Rate,
    pub now: Timestamp,
}

/// What a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Upstream,
    Scope,
    Lost,
    Rate,
    Spark,
    By,
    Cause,
    Seen,
    Timeout,
    Summary,
}

/// By which column rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub by: Column,
    /// Against the column's own sense, which is the most, the newest or the first letter first.
    pub reversed: bool,
}

impl Default for Order {
    fn default() -> Self {
        Self { by: Column::Lost, reversed: false }
    }
}

impl Order {
    /// The columns that can be sorted by, as they stand from left to right.
    pub const COLUMNS: [Column; 6] =
        [Column::Upstream, Column::Lost, Column::Rate, Column::By, Column::Cause, Column::Seen];

    /// By the column so many to the right of this one, around the edges.
    #[must_use]
    pub fn moved(self, by: usize) -> Self {
        let here = Self::COLUMNS.iter().position(|column| *column == self.by).unwrap_or(0);
        Self { by: Self::COLUMNS[(here + by) % Self::COLUMNS.len()], reversed: false }
    }

    /// Rows that are alike come in the order of what they lost, then the last seen first.
    #[must_use]
    pub fn compare(self, a: &Row<'_>, b: &Row<'_>) -> Ordering {
        let (x, y) = (a.upstream, b.upstream);
        let most = y.counts.cmp(&x.counts);
        let newest = y.last.cmp(&x.last);
        let first = a.key.cmp(b.key);
        let wanted = match self.by {
            Column::Upstream | Column::Scope => first,
            Column::Lost => most,
            Column::Rate | Column::Spark => b.rate.cmp(&a.rate),
            Column::By => x.latest.by.cmp(&y.latest.by),
            Column::Cause | Column::Summary => x.latest.cause.name().cmp(y.latest.cause.name()),
            Column::Seen => newest,
            Column::Timeout => timeout(b.learned).total_cmp(&timeout(a.learned)),
        };
        let wanted = if self.reversed { wanted.reverse() } else { wanted };
        wanted.then(most).then(newest).then(first)
    }
}

impl<'a> Row<'a> {
    #[must_use]
    pub fn new(
        key: &'a Key,
        upstream: &'a Upstream,
        learned: Option<&'a UpstreamState>,
        now: Timestamp,
    ) -> Self {
        Self { key, upstream, learned, rate: upstream.pace.rate(now), now }
    }

    /// Whether its text has that word, in any case of letters; `word` is in small letters.
    #[must_use]
    pub fn holds(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let latest = &self.upstream.latest;
        [&self.key.target, &self.key.scope, latest.by.name(), latest.cause.name(), &latest.summary]
            .iter()
            .any(|text| text.to_lowercase().contains(&word))
    }

    /// One line of JSON, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Upstream { counts, latest, first, last, .. } = self.upstream;
        let causes: Vec<_> = self
            .upstream
            .endings()
            .iter()
            .map(|(by, cause, count)| json!({"by": by, "cause": cause, "count": count}))
            .collect();
        let row = json!({
            "schema": SCHEMA,
            "kind": "upstream",
            "upstream": latest.upstream,
            "listener": latest.listener,
            "scope": self.key.scope,
            "lost": counts.lost,
            "unsure": counts.unsure,
            "harmless": counts.harmless,
            "last_10s": self.rate.last_10s,
            "last_minute": self.rate.last_minute,
            "by": latest.by,
            "cause": latest.cause,
            "impact": latest.impact,
            "causes": causes,
            "first": format!("{first:.9}"),
            "last": format!("{last:.9}"),
            "learned": self.learned,
            "summary": latest.summary,
        });
        printable_json(row.to_string())
    }
}

/// The learned timeout of an upstream, milliseconds; -1 if there is none.
fn timeout(learned: Option<&UpstreamState>) -> f64 {
    learned.and_then(|state| state.upstream_timeout.as_ref()).map_or(-1.0, |timeout| timeout.age_ms)
}
