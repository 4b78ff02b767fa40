//! What became of the process behind the accepted end, where that end is on this host.

use super::healthy::{CLOSE_NOTIFY, KEPT_MS};
use crate::event::{Process, Role};
use crate::verdict::fate::Fate;
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Culprit, Impact, Story};

/// The accepted end was closed by the death of its process, or by one that had been told to go: the cause is that.
pub fn ended(story: &Story<'_>) -> Option<Finding> {
    let process = story.other?.actor.as_ref()?;
    let lost = story.end.pending && (story.fin_received() || story.rst_received());
    if lost { let_go(story, process) } else { None }
}

/// The process behind the accepted end died badly when nothing seemed to be owed. It had more to send if some of it
/// was on its way; a connection in use that ended within the last moments may have been in the middle of a response,
/// or kept for the next request.
pub fn ended_mid_response(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    let other = story.other.filter(|_| end.peer_ended_badly && !end.pending && story.fin_received())?;
    let process = other.actor.clone().filter(|actor| actor.exit.is_some())?;
    let exit = story.upstream_exit.filter(|exit| exit.code != Some(0))?;
    let impact = match () {
        () if end.bytes_received == 0 => return None,
        () if other.unacked > 0 => Impact::ResponseTruncated,
        // Who keeps no connection for a next request has one open for as long as the response is not whole.
        () if story.in_a_response() && !end.upstream_reused && !end.preexisting => Impact::ResponseTruncated,
        () if story.idle_ms() < KEPT_MS => Impact::Unknown,
        () => return None,
    };
    let culprit = Culprit { process, exit: Some(exit), killed_by: story.upstream_killer().cloned() };
    Some(Finding::new(By::Upstream, Cause::ClosedMidResponse, impact).culprit(Some(culprit)))
}

/// The connecting end is on another host: this host's side of the story.
pub fn server_side(story: &Story<'_>) -> Option<Finding> {
    let end = story.end;
    // A client on the loopback of this host, whose end is not here, was none that a gateway cares for.
    let remote = !end.tuple.peer.ip().is_loopback();
    if end.role != Role::Server || !end.unanswered || !story.closed_here() || !remote {
        return None;
    }
    let process = end.actor.as_ref()?;
    if let Some(finding) = let_go(story, process) {
        return Some(finding);
    }
    // What it had not read after an answer was its client's goodbye: who takes leave waits for no other.
    if end.bytes_sent > 0 && (1..=CLOSE_NOTIFY).contains(&end.unread) {
        return None;
    }
    let cause = if end.unread > 0 {
        Cause::ClosedUnreadData
    } else if end.linger0 {
        Cause::ResetWithoutResponse
    } else {
        Cause::ClosedWithoutResponse
    };
    Some(Finding::new(By::Upstream, cause, Impact::RequestLost).culprit(Some(closer(story, process))))
}

/// A culprit that lives on.
pub fn alive(process: Process) -> Culprit {
    Culprit { process, exit: None, killed_by: None }
}

/// A culprit that closed by itself, with how it ended if that came right after.
pub fn closer(story: &Story<'_>, process: &Process) -> Culprit {
    Culprit { exit: story.fate.as_ref().and_then(Fate::exit), ..alive(process.clone()) }
}

fn let_go(story: &Story<'_>, process: &Process) -> Option<Finding> {
    let ending = story.ending()?;
    let finding = Finding::new(By::Upstream, ending.cause, Impact::RequestLost);
    Some(finding.culprit(Some(ending.culprit(process))))
}
