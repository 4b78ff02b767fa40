//! Ends that harmed nobody.

use crate::event::{LONGEST_GOODBYE, Role, SocketEnd};
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Impact, Story};

/// A connection without data for this long was kept for the next request.
pub const KEPT_MS: f64 = 200.0;

/// Bytes of close_notify with today's ciphers, at most. The shortest request that names a host of five letters is as
/// long; the old ciphers' 53 would hide real ones.
pub(super) const CLOSE_NOTIFY: u32 = 31;

/// Both sides wrote a few last bytes that the other never read, so the kernel of the one that closed first sent a
/// RST: this is how TLS connections end when both close at once. Who waits for the rest of a response writes
/// nothing, and who rejects a request sends nothing first.
pub fn goodbyes_crossed(story: &Story<'_>) -> Option<Finding> {
    let few = |bytes: u32| (1..=LONGEST_GOODBYE).contains(&bytes);
    let crossed =
        few(story.end.unread) && story.end.written_since_read.is_some_and(few) && story.end.exchanges > 0;
    (owes_nothing(story) && story.rst_received() && crossed).then(|| harmless(story, Cause::Graceful))
}

/// After an answer, something no longer than TLS's close_notify was written, and the FIN came at once: the other side had said
/// goodbye in its own way (a Close frame, a GOAWAY), this one answered alike, and that was the end.
pub fn goodbye_answered(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    let short = end.written_since_read.is_some_and(|bytes| bytes <= CLOSE_NOTIFY);
    let last_word = end.pending && end.exchanges > 0 && short;
    let at_once = story.ms(end.lsnd_age) < KEPT_MS && story.ms(end.lrcv_age) < KEPT_MS;
    (end.role == Role::Client && story.fin_received() && last_word && at_once)
        .then(|| harmless(story, Cause::Graceful))
}

/// The owner has said all that it wants to say (`SHUT_WR`) and goes on reading: a tunnel passes its client's half-close on.
pub fn half_closed(story: &Story<'_>) -> Option<Finding> {
    (story.end.role == Role::Client && story.end.half_closed())
        .then(|| Finding::new(By::Gateway, Cause::Graceful, Impact::None))
}

/// The peer had answered, and closed in the ordinary way with more of the request (or a goodbye) unread, so its kernel
/// made a RST of the FIN. All that it had written has arrived, and a RST takes nothing away from who has not read it
/// yet; like after a FIN, only the protocol knows whether it was the whole answer.
pub fn answered_early(story: &Story<'_>) -> Option<Finding> {
    let closed = |other: &SocketEnd| {
        let lives = other.actor.as_ref().is_some_and(|actor| actor.exit.is_none());
        other.unread > 0 && !other.linger0 && other.unacked == 0 && lives
    };
    let taken = story.end.unacked == 0 && story.end.bytes_received > 0;
    (owes_nothing(story) && story.rst_received() && taken && story.other.is_some_and(closed))
        .then(|| harmless(story, Cause::Graceful))
}

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
