//! What became of a connection on its way to the application: packet filters, full accept queues, hosts that do not
//! know it, RSTs that nobody at its ends has sent. Told by what this host's kernels did with its segments.

use super::process::alive;
use crate::event::errno::{ECONNREFUSED, ETIMEDOUT};
use crate::event::{Role, SocketEnd};
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Impact, Story};

/// A packet filter of this host dropped the SYN and answered it itself, by a RST or by ICMP.
pub fn filter_refused(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    let answered = end.rst_received || !matches!(end.sk_err, 0 | ETIMEDOUT) || story.gave_up_at_once();
    let filtered = end.filtered_in_netns.is_some() && end.refused_in_netns.is_none();
    (story.connecting() && answered && filtered)
        .then(|| Finding::new(By::Firewall, Cause::FirewallRejected, Impact::ConnectFailed))
}

/// A packet filter of this host dropped the SYN, or the answer to it, and said nothing.
pub fn filter_silent(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    let filtered = end.filtered_in_netns.or(end.answer_filtered_in_netns).is_some();
    (silent(story) && filtered)
        .then(|| Finding::new(By::Firewall, Cause::ConnectTimeout, Impact::ConnectFailed))
}

/// The SYNs found the accept queue full: the kernel drops them without a trace, so the queue was looked at.
pub fn queue_full(story: &Story<'_>) -> Option<Finding> {
    let (_, listener) = story.full_queue.as_ref().filter(|_| silent(story) && story.end.retransmits > 0)?;
    Some(
        Finding::new(By::Upstream, Cause::AcceptQueueFull, Impact::ConnectFailed)
            .culprit(listener.clone().map(alive)),
    )
}

/// The connect was answered by nothing.
fn silent(story: &Story<'_>) -> bool {
    story.connecting() && matches!(story.end.sk_err, 0 | ETIMEDOUT)
}

/// The last segment of the handshake found the accept queue full, and was answered with a RST
/// (`tcp_abort_on_overflow`).
pub fn queue_reset(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    (reset_from_the_path(story) && end.queue_reset).then(|| {
        let impact = if end.bytes_sent == 0 { Impact::ConnectFailed } else { Impact::RequestLost };
        Finding::new(By::Upstream, Cause::AcceptQueueFull, impact)
    })
}

/// The handshake's last segment was dropped by a full accept queue: only this side believes in the connection.
pub fn queue_dropped(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    if end.role != Role::Client || story.connecting() || !nothing_acknowledged(end) {
        return None;
    }
    let full = story.full_queue.as_ref();
    let listener = full.and_then(|(_, listener)| listener.clone());
    (end.queue_dropped || full.is_some()).then(|| {
        Finding::new(By::Upstream, Cause::AcceptQueueFull, Impact::RequestLost).culprit(listener.map(alive))
    })
}

/// A request was written, and not one byte that this socket sent was ever acknowledged.
pub fn nothing_acknowledged(end: &SocketEnd) -> bool {
    end.pending && end.exchanges == 0 && end.unacked > 0 && u64::from(end.unacked) == end.bytes_sent
}

/// A packet filter of this host dropped a segment of the connection and reset it.
pub fn filter_reset(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    (reset_from_the_path(story) && end.pending && end.filtered_in_netns.is_some())
        .then(|| Finding::new(By::Firewall, Cause::FirewallRejected, Impact::RequestLost))
}

/// The host answered a segment of an established connection as a stranger.
pub fn forgotten(story: &Story<'_>) -> Option<Finding> {
    (reset_from_the_path(story) && story.end.pending && story.end.stranger)
        .then(|| Finding::new(By::Upstream, Cause::ConnectionForgotten, Impact::RequestLost))
}

/// Both ends are on this host, and the RST came from neither: the accepted one received one too, or lives on.
pub fn forged(story: &Story<'_>) -> Option<Finding> {
    let reset_too = story.other.is_some_and(|other| other.rst_received);
    let lives_on = story.other.is_none() && story.other_end_lives;
    if !reset_from_the_path(story) || !(reset_too || lives_on) {
        return None;
    }
    let impact = match () {
        () if story.end.pending => Impact::RequestLost,
        () if story.in_a_response() => Impact::ResponseTruncated,
        () => Impact::None,
    };
    Some(Finding::new(By::Network, Cause::MiddleboxReset, impact))
}

fn reset_from_the_path(story: &Story<'_>) -> bool {
    story.end.role == Role::Client && !story.connecting() && story.rst_received()
}

/// A refusal without a RST is an ICMP port unreachable, which no TCP stack sends: a packet filter does. Unless the
/// hook of the RST was skipped.
pub fn refused_by_icmp(story: &Story<'_>) -> Option<Finding> {
    (story.connecting() && story.end.sk_err == ECONNREFUSED).then(|| {
        Finding::new(By::Firewall, Cause::FirewallRejected, Impact::ConnectFailed)
            .inferred(&[Cause::NoListener])
    })
}
