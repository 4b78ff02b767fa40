//! A server that stands in a gateway's configuration, and refuses: a stale registration.

use super::Origin;
use super::view::wall_time;
use crate::enrich::gateways::Registration;
use crate::verdict::{Cause, Verdict};

/// What the summary of a verdict says already where no one has listened at all.
const SAID: &str = "stale registration";

/// What is said of it.
#[derive(Clone, Debug)]
pub struct Stale {
    /// Where it is configured.
    place: String,
    /// When its last listener ceased, if this host has seen that.
    since: Option<jiff::Timestamp>,
}

// === impl Stale ===

impl Stale {
    /// None: it answered in one way or another, or the gateway does not use it.
    pub fn of(verdict: &Verdict, registration: &Registration, origin: &Origin) -> Option<Self> {
        if verdict.cause != Cause::NoListener || !registration.state.is_used() {
            return None;
        }
        let address = verdict.upstream.as_ref()?.to_string();
        let since = verdict.listened_until_ns.map(|ns| wall_time(ns, origin.clock_offset_ns));
        Some(Self { place: registration.words(&address), since })
    }

    /// A fact of its own.
    pub fn evidence(&self) -> String {
        let since = self.since.map_or_else(
            || "nothing listens there".to_owned(),
            |since| format!("nothing has listened there since {since:.3}"),
        );
        format!("stale registration: {}, and {since}", self.place)
    }

    /// The sentence of the verdict, and where to correct it.
    pub fn summary(&self, summary: &str) -> String {
        if summary.contains(SAID) {
            format!("{summary}; {}", self.place)
        } else {
            format!("{summary}; {SAID}: {}", self.place)
        }
    }
}
