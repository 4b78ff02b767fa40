//! Ends that harmed nobody.

use crate::event::Role;
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Impact, Story};

/// A connection without data for this long was kept for the next request.
const KEPT_MS: f64 = 200.0;

/// Connected and closed without a byte either way: a port probe or a health check.
pub fn probe(story: &Story<'_>) -> Option<Finding> {
    let silent = story.end.bytes_sent == 0 && story.end.bytes_received == 0;
    // A pool may open connections ahead of need; those are idle, not probes.
    let brief = story.idle_ms() < KEPT_MS;
    (owes_nothing(story) && silent && brief).then(|| harmless(story, Cause::Probe))
}

pub fn idle_close(story: &Story<'_>) -> Option<Finding> {
    (owes_nothing(story) && story.idle_ms() >= KEPT_MS).then(|| harmless(story, Cause::IdleClose))
}

pub fn graceful(story: &Story<'_>) -> Option<Finding> {
    owes_nothing(story).then(|| harmless(story, Cause::Graceful))
}

fn owes_nothing(story: &Story<'_>) -> bool {
    story.end.role == Role::Client && !story.connecting() && !story.end.pending
}

fn harmless(story: &Story<'_>, cause: Cause) -> Finding {
    let by = if story.closed_here() { By::Gateway } else { By::Upstream };
    Finding::new(by, cause, Impact::None)
}
