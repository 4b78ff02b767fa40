//! The lines of the live stream: one JSON object each, with the keys and the order of the contract.
//!
//! Built from a [`Verdict`] and from what only the host knows (names of cgroups, of reset reasons, of network
//! namespaces), so that a line needs nothing else to be understood. It can be read back: `watch` shows as text
//! what an agent sent as JSON.

mod connection;
mod join;
mod moment;
mod process;

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de};

pub use connection::ConnectionView;
pub use join::JoinView;
pub use moment::wall_time;
pub(super) use moment::{hundredths, nanoseconds};
pub use process::{CulpritView, ExitView, OwnerView, ProcessView};

use super::audit::AuditView;
use super::history::Extent;
use super::stale::Stale;
use super::state::StateView;
use super::text::printable_json;
use crate::enrich::container::Container;
use crate::enrich::endpoint::Endpoint;
use crate::enrich::gateways::Registration;
use crate::enrich::pods::Pod;
use crate::event::{Process, Role, Target};
use crate::verdict::{By, Cause, Confidence, How, Impact, Verdict};

/// Goes up when a key changes its meaning or goes away; new keys do not count.
pub const SCHEMA: u32 = 1;

/// What only the host knows.
pub trait Names {
    /// Path of the cgroup of a process.
    fn cgroup(&self, process: &Process) -> Option<String>;
    /// The pod of a container.
    fn pod(&self, container: &Container) -> Option<Pod>;
    /// Name of a number of the running kernel's `enum sk_rst_reason`.
    fn reset_reason(&self, number: u32) -> Option<String>;
    /// Whose network a namespace is: `host`, or a container.
    fn scope(&self, netns: u32) -> String;
    /// What an API server of Kubernetes says of what was dialled from `local`.
    fn endpoint(&self, target: &Target, local: Option<SocketAddr>) -> Option<Endpoint>;
    /// What the configuration of a gateway says of what `owner` dialled in a network namespace.
    fn registration(&self, target: &Target, netns: u32, owner: Option<&Process>) -> Option<Registration>;
}

/// Where and on what clock the verdicts were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub host: String,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, nanoseconds.
    pub clock_offset_ns: i64,
    /// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME` when the run began, nanoseconds. It stays what it was: so a process
    /// keeps the start time that it was first told with.
    pub boot_offset_ns: i64,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Ready,
    Verdict,
    Omitted,
    Audit,
    History,
    State,
    Report,
    Error,
}

/// One verdict as the contract spells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictView {
    pub schema: u32,
    pub kind: Kind,
    #[serde(with = "nanoseconds")]
    pub time: Timestamp,
    pub host: String,
    pub netns: u32,
    pub scope: String,
    pub role: Role,
    pub upstream: Option<String>,
    /// What a gateway's configuration calls it: see [`Registration::name`]; else its Service in Kubernetes.
    #[serde(default)]
    pub upstream_name: Option<String>,
    /// The pod whose address it is, as the API server of Kubernetes says: `NAMESPACE/NAME`.
    #[serde(default)]
    pub upstream_pod: Option<String>,
    /// Where the connection was led to (DNAT), where `upstream` is the address of a Service in Kubernetes.
    #[serde(default)]
    pub upstream_endpoint: Option<String>,
    /// Where it stands in a gateway's configuration, and as what.
    #[serde(default)]
    pub registration: Option<Registration>,
    pub listener: Option<String>,
    pub local: Option<String>,
    pub peer: Option<String>,
    pub by: By,
    pub cause: Cause,
    pub impact: Impact,
    pub confidence: Confidence,
    pub alternatives: Vec<Cause>,
    pub how: How,
    pub rst_reason: Option<String>,
    pub owner: Option<OwnerView>,
    pub culprit: Option<CulpritView>,
    pub connection: ConnectionView,
    #[serde(default)]
    pub join: JoinView,
    pub evidence: Vec<String>,
    pub summary: String,
}

/// First line of a stream: every hook is attached, whatever happens from now on is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub schema: u32,
    pub kind: Kind,
    #[serde(with = "nanoseconds")]
    pub time: Timestamp,
    pub host: String,
    pub version: String,
    pub hooks: Vec<HookView>,
    /// The optional groups of hooks that are on (`--with`).
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A hook, and how it came to be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookView {
    pub hook: String,
    /// `tp_btf`, `fentry`, `kprobe`, …; null if it is not attached.
    pub how: Option<String>,
    pub attached: bool,
}

/// Lines that were left out of a stream, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted {
    pub schema: u32,
    pub kind: Kind,
    pub count: u64,
    pub why: String,
}

/// Ends what was asked of the past: how far back the agent's memory goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    pub schema: u32,
    pub kind: Kind,
    pub kept: u64,
    pub capacity: u64,
    /// The time of the oldest verdict that is kept; null if none is.
    pub oldest: Option<Timestamp>,
    /// Verdicts that had to make room for newer ones.
    pub forgotten: u64,
}

/// Why there will be no stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub schema: u32,
    pub kind: Kind,
    pub error: String,
}

/// Any line of a stream, read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Ready(Ready),
    Verdict(Box<VerdictView>),
    Omitted(Omitted),
    Audit(Box<AuditView>),
    History(HistoryView),
    State(Box<StateView>),
    Error(Refusal),
}

// === impl VerdictView ===

impl VerdictView {
    #[must_use]
    pub fn new(verdict: &Verdict, names: &dyn Names, origin: &Origin) -> Self {
        // First, since whose network a namespace is may be learned from the processes in it.
        let owner = verdict.owner.as_ref().map(|p| OwnerView::new(p, names, origin));
        let culprit = verdict.culprit.as_ref().map(|culprit| CulpritView::new(culprit, names, origin));
        let registration = verdict
            .upstream
            .as_ref()
            .and_then(|target| names.registration(target, verdict.netns, verdict.owner.as_ref()));
        let configured = registration.as_ref().and_then(|registration| registration.name.clone());
        let endpoint = verdict
            .upstream
            .as_ref()
            .and_then(|target| names.endpoint(target, verdict.local))
            .unwrap_or_default();
        let stale = registration.as_ref().and_then(|registration| Stale::of(verdict, registration, origin));
        let mut evidence = verdict.evidence.clone();
        evidence.extend(stale.as_ref().map(Stale::evidence));
        let mut summary =
            stale.map_or_else(|| verdict.summary.clone(), |stale| stale.summary(&verdict.summary));
        if let Some(words) = culprit.as_ref().and_then(CulpritView::pod_words) {
            summary = format!("{summary}; {words}");
        }
        Self {
            schema: SCHEMA,
            kind: Kind::Verdict,
            time: wall_time(verdict.ktime_ns, origin.clock_offset_ns),
            host: origin.host.clone(),
            netns: verdict.netns,
            scope: names.scope(verdict.netns),
            role: verdict.role,
            upstream: verdict.upstream.as_ref().map(Target::to_string),
            upstream_name: configured.or(endpoint.service),
            upstream_pod: endpoint.pod,
            upstream_endpoint: endpoint.address.map(|address| address.to_string()),
            registration,
            listener: verdict.listener.map(|a| a.to_string()),
            local: verdict.local.map(|a| a.to_string()),
            peer: verdict.peer.map(|a| a.to_string()),
            by: verdict.by,
            cause: verdict.cause,
            impact: verdict.impact,
            confidence: verdict.confidence,
            alternatives: verdict.alternatives.clone(),
            how: verdict.how,
            rst_reason: verdict.rst_reason.map(|n| names.reset_reason(n).unwrap_or_else(|| n.to_string())),
            owner,
            culprit,
            connection: ConnectionView::new(verdict),
            join: JoinView::new(verdict),
            evidence,
            summary,
        }
    }

    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }

    /// Whether the owner of the socket runs in the container whose id begins like that.
    #[must_use]
    pub fn is_of_container(&self, id: &str) -> bool {
        let container = self.owner.as_ref().and_then(|owner| owner.container.as_deref());
        container.is_some_and(|container| container.starts_with(id))
    }

    /// The pods of the owner and of the culprit.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let owner = self.owner.as_ref().and_then(|owner| owner.pod.as_ref());
        let culprit = self.culprit.as_ref().and_then(|culprit| culprit.pod.as_ref());
        owner.into_iter().chain(culprit)
    }
}

// === impl Ready, Omitted, HistoryView, Refusal ===

impl Ready {
    #[must_use]
    pub fn new(ktime_ns: u64, origin: &Origin, hooks: Vec<HookView>, groups: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            kind: Kind::Ready,
            time: wall_time(ktime_ns, origin.clock_offset_ns),
            host: origin.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hooks,
            groups,
        }
    }

    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }
}

impl Omitted {
    #[must_use]
    pub fn new(count: u64, why: impl Into<String>) -> Self {
        Self { schema: SCHEMA, kind: Kind::Omitted, count, why: why.into() }
    }

    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }
}

impl HistoryView {
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        Self {
            schema: SCHEMA,
            kind: Kind::History,
            kept: extent.kept as u64,
            capacity: extent.capacity as u64,
            oldest: extent.oldest,
            forgotten: extent.forgotten,
        }
    }

    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }
}

impl Refusal {
    #[must_use]
    pub fn new(error: impl Into<String>) -> Self {
        Self { schema: SCHEMA, kind: Kind::Error, error: error.into() }
    }

    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }
}

// === impl Line ===

/// How a verdict's line begins: its keys have an order.
const VERDICT: &str = r#"{"schema":1,"kind":"verdict","#;

impl Line {
    /// Whether a line is a verdict's, by its beginning alone.
    #[must_use]
    pub fn is_verdict(line: &str) -> bool {
        line.starts_with(VERDICT)
    }

    /// Reads a line back; keys that it does not know are passed over.
    ///
    /// # Errors
    /// If it is no line of this schema.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head {
            kind: Kind,
        }
        if Self::is_verdict(line) {
            return serde_json::from_str(line).map(Self::Verdict);
        }
        Ok(match serde_json::from_str::<Head>(line)?.kind {
            Kind::Ready => Self::Ready(serde_json::from_str(line)?),
            Kind::Verdict => Self::Verdict(serde_json::from_str(line)?),
            Kind::Omitted => Self::Omitted(serde_json::from_str(line)?),
            Kind::Audit => Self::Audit(serde_json::from_str(line)?),
            Kind::History => Self::History(serde_json::from_str(line)?),
            Kind::State => Self::State(Box::new(serde_json::from_str(line)?)),
            Kind::Report => return Err(de::Error::custom("a report is no line of a stream")),
            Kind::Error => Self::Error(serde_json::from_str(line)?),
        })
    }
}

pub(super) fn json_line<T: Serialize>(value: &T) -> String {
    // Only a map with keys that are no strings, or a failing Serialize, could fail here: neither exists.
    printable_json(serde_json::to_string(value).unwrap_or_default())
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
