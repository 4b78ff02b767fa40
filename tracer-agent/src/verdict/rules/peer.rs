//! Ends that the peer made, while its process lives or is not to be seen.

use super::learned;
use super::path;
use super::process::{alive, closer};
use crate::event::Role;
use crate::event::errno::ECONNABORTED;
use crate::verdict::finding::{BEHIND_A_RESET, BEHIND_AN_END, Finding};
use crate::verdict::{By, Cause, Culprit, Impact, Story};

/// What may stand behind a RST whose sender is not on this host, besides its own process.
const BEHIND_A_RST_ON_THE_WAY: &[Cause] =
    &[Cause::MiddleboxReset, Cause::FirewallRejected, Cause::ConnectionForgotten];
/// What ends all connections of an upstream at once.
const DEATHS: &[Cause] = &[
    Cause::ProcessExited,
    Cause::ProcessCrashed,
    Cause::ProcessKilled,
    Cause::OomKilled,
    Cause::ServiceStopped,
];

/// The connection still waited to be accepted when the listener was closed.
pub fn never_accepted(story: &Story<'_>) -> Option<Finding> {
    let other = story.other.filter(|other| other.no_socket && other.shutdown == 0)?;
    if !story.rst_received() || story.end.bytes_sent == 0 {
        return None;
    }
    let culprit = other.actor.clone().map(|process| Culprit {
        process,
        exit: story.upstream_exit,
        killed_by: story.upstream_killer().cloned(),
    });
    Some(Finding::new(By::Upstream, Cause::NeverAccepted, Impact::RequestLost).culprit(culprit))
}

/// At the peer's FIN its kernel had not even received the request: the two crossed on the way. Or the FIN was there
/// first, and the gateway had not looked.
pub fn keepalive_race(story: &Story<'_>) -> Option<Finding> {
    let crossed = story.fin_received() && story.end.pending && story.end.request_had_not_arrived();
    // With retransmissions the request was lost on the way, which is another story.
    let crossed = crossed && story.end.retransmits_since_read == 0;
    let race = (crossed || story.written_after_fin()) && story.end.exchanges > 0;
    race.then(|| {
        let culprit = story.other.and_then(|other| other.actor.clone()).map(alive);
        Finding::new(By::Upstream, Cause::KeepaliveRace, Impact::RequestLost).culprit(culprit)
    })
}

/// An operator destroyed the accepted end (`ss -K`), whose kernel then sent the RST. Where that RST was lost on the way
/// and a later segment was answered as a stranger's, that answer ended this side.
pub fn destroyed(story: &Story<'_>) -> Option<Finding> {
    let other = story.other.filter(|other| other.sk_err == ECONNABORTED)?;
    if story.end.stranger && story.too_late_for_a_segment_of(other) {
        return None;
    }
    let impact = match () {
        () if !story.rst_received() => return None,
        () if story.end.pending => Impact::RequestLost,
        () if story.in_a_response() => Impact::ResponseTruncated,
        () => Impact::None,
    };
    let actor = story.other_reset.and_then(|reset| reset.actor.clone()).or_else(|| other.actor.clone());
    Some(Finding::new(By::Operator, Cause::SocketDestroyed, impact).culprit(actor.map(alive)))
}

pub fn closed_unread(story: &Story<'_>) -> Option<Finding> {
    let other = story.other.filter(|other| other.unread > 0)?;
    (story.rst_received() && story.end.pending).then(|| {
        Finding::new(By::Upstream, Cause::ClosedUnreadData, Impact::RequestLost)
            .culprit(other.actor.clone().map(alive))
    })
}

pub fn reset(story: &Story<'_>) -> Option<Finding> {
    if story.end.role != Role::Client || !story.rst_received() || !story.end.pending {
        return None;
    }
    let finding = Finding::new(By::Upstream, Cause::ResetWithoutResponse, story.request_impact());
    Some(match story.other {
        Some(other) if other.linger0 => finding.culprit(other.actor.clone().map(alive)),
        _ if learned::died_together(story) => finding.inferred(DEATHS),
        _ if path::nothing_acknowledged(story.end) => {
            finding.inferred(&[BEHIND_A_RESET, BEHIND_A_RST_ON_THE_WAY, &[Cause::AcceptQueueFull]].concat())
        }
        _ => finding.inferred(&[BEHIND_A_RESET, BEHIND_A_RST_ON_THE_WAY].concat()),
    })
}

pub fn closed(story: &Story<'_>) -> Option<Finding> {
    let closed = story.fin_received() || story.written_after_fin();
    if story.end.role != Role::Client || !closed || !story.end.pending {
        return None;
    }
    let finding = Finding::new(By::Upstream, Cause::ClosedWithoutResponse, story.request_impact());
    Some(match story.other {
        Some(other) => finding.culprit(other.actor.as_ref().map(|process| closer(story, process))),
        None if learned::died_together(story) => finding.inferred(DEATHS),
        None => finding.inferred(BEHIND_AN_END),
    })
}

/// Data had come, and no request waits. A RST right after it cuts a response short; but a server that closes
/// with something unread after a whole response resets as well. So then, and where the other end is not to be seen and
/// the RST came right behind data that nobody has read yet, the harm is not known.
pub fn reset_mid_response(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    if end.role != Role::Client || !story.rst_received() || !story.in_a_response() {
        return None;
    }
    let impact = match story.other {
        Some(other) if other.unread > 0 => Impact::Unknown,
        None if end.unread > 0 => Impact::Unknown,
        _ => Impact::ResponseTruncated,
    };
    let finding = Finding::new(By::Upstream, Cause::ResetMidResponse, impact);
    Some(match story.other {
        Some(other) => finding.culprit(other.actor.clone().map(|process| Culprit {
            process,
            exit: story.upstream_exit,
            killed_by: story.upstream_killer().cloned(),
        })),
        None => finding.inferred(&[Cause::ClosedUnreadData, Cause::MiddleboxReset, Cause::FirewallRejected]),
    })
}
