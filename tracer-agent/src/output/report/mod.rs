//! The incident on one page: what was lost, from when to when, who did it, what it has in common, what to do next.
//!
//! Pure: a [`Builder`] takes verdicts in any order and gives a [`Report`]; `text` spells it for a terminal. Everything
//! in it is bounded, and what found no place is counted in `others`.

mod builder;
mod culprits;
mod findings;
mod groups;
mod phrases;
mod processes;
mod rows;
mod seen;
mod stale;
#[cfg(test)]
mod tests;
mod text;
mod timeline;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use builder::{Asked, Builder};
pub use seen::Seen;
pub use text::Page;

use super::selection::Filter;
use super::state::{ListenerState, UpstreamState};
use super::view::{ExitView, Kind, hundredths, json_line};
use crate::enrich::gateways::Registration;
use crate::verdict::{By, Cause, Impact};

/// The incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub kind: Kind,
    pub host: String,
    /// When it was asked for.
    pub time: Timestamp,
    pub span: SpanView,
    pub filter: Filter,
    pub totals: Totals,
    /// The verdict in one sentence.
    pub headline: String,
    /// What the losses have in common, the weightiest first.
    pub findings: Vec<String>,
    /// By upstream, scope, cause and side, the most losses first.
    pub groups: Vec<Group>,
    /// What found no place in `groups`.
    pub others: Others,
    pub timeline: Timeline,
    /// Programs whose processes ended connections, or died with them; then the gateways.
    pub programs: Vec<Program>,
    /// Upstreams that refused since nothing listens there.
    pub stale: Vec<Stale>,
    /// What the agent has learned of the upstreams.
    pub learned: Vec<UpstreamState>,
    /// What to do about each cause, the most losses first.
    pub next: Vec<Next>,
}

/// The time that it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanView {
    /// As it was asked for; null is no limit.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// From when on nothing is missing; null if that is not known.
    pub covered_since: Option<Timestamp>,
    /// The oldest verdict that the agent has kept, of whatever span.
    pub oldest: Option<Timestamp>,
    /// Verdicts that the agent has kept, and those that had to make room.
    pub kept: u64,
    pub forgotten: u64,
}

/// How many verdicts, by what they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impacts {
    pub request_lost: u64,
    pub connect_failed: u64,
    pub response_truncated: u64,
    pub unknown: u64,
}

/// Of the whole span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// All of `impacts` together.
    pub losses: u64,
    pub impacts: Impacts,
    /// Verdicts on what harmed nobody; only where they were asked for.
    pub harmless: u64,
    /// Upstreams that lost something; those in `others` are not counted.
    pub upstreams: u64,
    /// The first loss and the last one.
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

/// What an upstream lost to one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The address dialled; null for accepted sockets.
    pub upstream: Option<String>,
    /// What a gateway's configuration calls it.
    #[serde(default)]
    pub upstream_name: Option<String>,
    /// Where it is configured to be used; null also where it is not known.
    #[serde(default)]
    pub registration: Option<Registration>,
    /// The address that accepted, where the gateway's end was not seen.
    pub listener: Option<String>,
    pub scope: String,
    pub by: By,
    pub cause: Cause,
    pub losses: u64,
    pub impacts: Impacts,
    pub first: Timestamp,
    pub last: Timestamp,
    /// What was said of the last one.
    pub example: String,
    /// Causes that the evidence could not exclude in some of them.
    pub alternatives: Vec<Cause>,
    /// The container of the gateway's process, if it was the same in all of them.
    pub container: Option<String>,
    /// Who did it: the most losses first.
    pub culprits: Vec<Culprit>,
    /// Losses with culprits beyond those.
    pub other_culprits: u64,
}

/// Processes of one name that ended alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Culprit {
    pub comm: String,
    /// The first few.
    pub pids: Vec<u32>,
    /// How many there were; a lower bound beyond 256.
    pub processes: u64,
    /// Null: they live.
    pub exit: Option<ExitView>,
    /// The name of who sent the signal.
    pub killed_by: Option<String>,
    /// The same in words, such as `OOM-killed`.
    pub ended: Option<String>,
    pub losses: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Start of the process that was started last.
    #[serde(with = "hundredths")]
    pub started: Option<Timestamp>,
}

/// What is beyond the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    pub losses: u64,
    pub impacts: Impacts,
    /// Groups that are not listed; those of upstreams that found no place while counting are not among them.
    pub groups: u64,
}

/// Losses over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// When the first interval begins.
    pub from: Option<Timestamp>,
    /// The length of each.
    pub seconds: u64,
    pub losses: Vec<u64>,
}

/// The processes of one name that were seen in the losses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub comm: String,
    pub part: Part,
    pub container: Option<String>,
    pub losses: u64,
    /// How many processes there were; a lower bound beyond 256.
    pub processes: u64,
    pub ended: u64,
    /// Those that were started after one of that name had ended.
    pub restarts: u64,
    /// The last ones to be started, in the order of their start.
    pub latest: Vec<Instance>,
}

/// What a program was in the losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Its action or its end is the cause.
    Culprit,
    /// Its sockets they were.
    Owner,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub pid: u32,
    #[serde(with = "hundredths")]
    pub started: Option<Timestamp>,
    /// The last loss with it; of one that has ended the first, so that it ended then or before.
    pub seen: Timestamp,
    pub ended: Option<String>,
    pub losses: u64,
}

/// An upstream that refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    pub upstream: String,
    pub scope: String,
    pub losses: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Where a gateway is told to use it all the same: a stale registration.
    #[serde(default)]
    pub registration: Option<Registration>,
    /// Who listened there before, where the refusal could be joined with it.
    pub before: Option<Culprit>,
    /// What the agent knows of a listener there; null if there never was one on this host.
    pub listener: Option<ListenerState>,
}

/// What to do about one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    pub cause: Cause,
    pub losses: u64,
    /// The paragraph of docs/causes.md, on one line, with its Markdown.
    pub advice: String,
}

// === impl Report ===

impl Report {
    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }
}

// === impl Impacts ===

impl Impacts {
    fn add(&mut self, impact: Impact) {
        match impact {
            Impact::RequestLost => self.request_lost += 1,
            Impact::ConnectFailed => self.connect_failed += 1,
            Impact::ResponseTruncated => self.response_truncated += 1,
            Impact::Unknown => self.unknown += 1,
            Impact::None => {}
        }
    }

    fn add_all(&mut self, other: Self) {
        self.request_lost += other.request_lost;
        self.connect_failed += other.connect_failed;
        self.response_truncated += other.response_truncated;
        self.unknown += other.unknown;
    }

    /// All of them.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.request_lost + self.connect_failed + self.response_truncated + self.unknown
    }
}
