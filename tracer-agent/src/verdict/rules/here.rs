//! Ends that this side made: the process that holds the socket, its timers, or an operator.

use super::learned;
use super::path;
use crate::event::errno::{ECONNABORTED, ETIMEDOUT};
use crate::event::{LONGEST_GOODBYE, Role, TcpState};
use crate::table::SHORTEST_TIMEOUT_MS;
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Culprit, Impact, Story};

/// Jiffies between a parting word and the close, at most: the same system call or the next one.
const PARTING_TICKS: u32 = 1;

/// Whether a request is lost with the connection.
fn impact(story: &Story<'_>) -> Impact {
    if story.end.pending { Impact::RequestLost } else { Impact::None }
}

pub fn destroyed(story: &Story<'_>) -> Option<Finding> {
    if story.end.new_state != TcpState::Close || story.end.sk_err != ECONNABORTED {
        return None;
    }
    let actor = story.reset.and_then(|r| r.actor.clone()).or_else(|| story.end.actor.clone());
    let culprit = actor.map(|process| Culprit { process, exit: None, killed_by: None });
    Some(Finding::new(By::Operator, Cause::SocketDestroyed, impact(story)).culprit(culprit))
}

pub fn timed_out(story: &Story<'_>) -> Option<Finding> {
    (!story.connecting() && story.end.new_state == TcpState::Close && story.end.sk_err == ETIMEDOUT)
        .then(|| Finding::new(By::Network, Cause::PacketsLost, impact(story)).inferred(&[]))
}

pub fn owner_died(story: &Story<'_>) -> Option<Finding> {
    if !pending_and_closed_here(story) {
        return None;
    }
    let process = story.end.actor.clone().filter(|actor| actor.exit.is_some())?;
    let culprit = Culprit { exit: story.owner_exit, killed_by: story.owner_killer().cloned(), process };
    Some(Finding::new(By::Gateway, Cause::GatewayExited, Impact::RequestLost).culprit(Some(culprit)))
}

/// The request was sent again and again, and no acknowledgement came: of none of it, or of none since the last
/// timeout. (A peer that takes no more of a body acknowledges the probes of its window, and something may have been
/// sent twice before.)
pub fn never_acknowledged(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    let nothing = end.retransmits_since_read > 0 && end.written_since_read == Some(end.unacked);
    let lost = end.unacked > 0 && (nothing || end.timeouts > 0);
    // Where nothing at all was, the accept queue there may have dropped the end of the handshake.
    let alternatives: &[Cause] =
        if path::nothing_acknowledged(end) { &[Cause::AcceptQueueFull] } else { &[] };
    (pending_and_closed_here(story) && lost)
        .then(|| Finding::new(By::Network, Cause::PacketsLost, Impact::RequestLost).inferred(alternatives))
}

pub fn client_gone(story: &Story<'_>) -> Option<Finding> {
    if !pending_and_closed_here(story) || last_words(story) {
        return None;
    }
    let left = story.client_left.as_ref()?;
    let finding = Finding::new(By::Client, Cause::ClientGone, Impact::RequestLost);
    Some(if left.same_process { finding } else { finding.inferred(&[Cause::GatewayTimeout]) })
}

/// The gateway gave up on a connection that still waited to be accepted: nobody there had even read the request.
pub fn never_accepted(story: &Story<'_>) -> Option<Finding> {
    (pending_and_closed_here(story) && story.waits_to_be_accepted())
        .then(|| Finding::new(By::Gateway, Cause::NeverAccepted, Impact::RequestLost))
}

/// It closed over an answer of which it had not read any more for as long as a timeout takes. Who rejects an answer
/// does so when it comes; who stops reading waits for whom it passes the answer on to.
pub fn client_stalled(story: &Story<'_>) -> Option<Finding> {
    let stalled = story.ms(story.end.lrcv_age) >= SHORTEST_TIMEOUT_MS;
    (closed_over_an_answer(story) && story.client_left.is_none() && stalled).then(|| {
        Finding::new(By::Client, Cause::ClientGone, Impact::RequestLost)
            .inferred(&[Cause::GatewayRejectedResponse])
    })
}

/// It closed over an answer that it did not read to its end, while its client was still there: a header too big, a
/// response that it does not understand. (What is shorter than a goodbye is one.)
pub fn rejected(story: &Story<'_>) -> Option<Finding> {
    (closed_over_an_answer(story) && story.client_left.is_none()).then(|| {
        Finding::new(By::Gateway, Cause::GatewayRejectedResponse, Impact::RequestLost)
            .inferred(&[Cause::ClientGone])
    })
}

fn closed_over_an_answer(story: &Story<'_>) -> bool {
    let unread = story.end.unread > LONGEST_GOODBYE;
    story.end.role == Role::Client && story.closed_here() && !story.end.pending && unread
}

pub fn gave_up(story: &Story<'_>) -> Option<Finding> {
    let waited = story.ms(story.end.request_age()) >= SHORTEST_TIMEOUT_MS;
    (pending_and_closed_here(story) && waited && learned::no_timeout(story).is_none())
        .then(|| Finding::new(By::Gateway, Cause::GatewayTimeout, Impact::RequestLost))
}

/// Too early for a timeout, or at an age that cannot be one: with HTTP/2 and HTTP/3 a client cancels its request and
/// keeps its connection, which nothing in TCP shows.
///
/// What was written within the last tick or two and is followed by the close may be no request at all: TLS says
/// goodbye in that way (close_notify), as do other protocols. Then two readings remain.
pub fn closed(story: &Story<'_>) -> Option<Finding> {
    let impact = if story.end.request_age() <= PARTING_TICKS { Impact::Unknown } else { Impact::RequestLost };
    let waited = story.ms(story.end.request_age()) >= SHORTEST_TIMEOUT_MS;
    let alternatives: &[_] =
        if waited { &[Cause::ClientGone, Cause::GatewayTimeout] } else { &[Cause::ClientGone] };
    pending_and_closed_here(story)
        .then(|| Finding::new(By::Gateway, Cause::GatewayClosed, impact).inferred(alternatives))
}

/// On a connection that had carried answers, all that waits was written within the last tick or two, right before the
/// close: as likely a goodbye as a request. So is what was written when the client that left had long gone: nobody
/// writes on for whom it knows to be away.
fn last_words(story: &Story<'_>) -> bool {
    let end = story.end;
    let just_written = end.unacked > 0 && end.written_since_read == Some(end.unacked);
    let since_left = story.client_left.as_ref().map(|left| end.ktime_ns.saturating_sub(left.ktime_ns));
    let client_had_gone = since_left.is_some_and(|ns| ns as f64 / 1e6 > story.ms(3 * PARTING_TICKS));
    end.exchanges > 0 && end.lsnd_age <= PARTING_TICKS && (just_written || client_had_gone)
}

fn pending_and_closed_here(story: &Story<'_>) -> bool {
    story.end.role == Role::Client && story.end.pending && story.closed_here()
}
