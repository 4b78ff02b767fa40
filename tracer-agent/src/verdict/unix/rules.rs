//! The rules for Unix sockets: one ordered list, the first that matches wins.

use super::Story;
use crate::event::{Process, UnixHow};
use crate::table::SHORTEST_TIMEOUT_MS;
use crate::verdict::finding::{BEHIND_A_RESET, BEHIND_AN_END, Finding};
use crate::verdict::story::IDLE_MS;
use crate::verdict::{By, Cause, Culprit, Impact};

/// A named rule.
pub struct Rule {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "names are for people who read the list, and for tests")
    )]
    pub name: &'static str,
    pub find: fn(&Story<'_>) -> Option<Finding>,
}

const fn rule(name: &'static str, find: fn(&Story<'_>) -> Option<Finding>) -> Rule {
    Rule { name, find }
}

/// In order. What the owner did; then what the other end did, where its process knows best; then what harmed nobody.
pub const RULES: &[Rule] = &[
    rule("owner ended", owner_ended),
    rule("client had gone", client_gone),
    rule("given up on a request that nobody read", never_read),
    rule("gateway gave up waiting", gave_up),
    rule("gateway closed early", closed_here),
    rule("process behind it ended", server_ended),
    rule("ended before anybody read", never_accepted),
    rule("request crossed an idle close", keepalive_race),
    rule("closed with the request unread", reset),
    rule("closed without a response", closed),
    rule("reset in the middle of a response", reset_mid_response),
    rule("probe", probe),
    rule("idle close", idle_close),
    rule("graceful", graceful),
];

/// What is written and followed by the close within this may be a goodbye of the protocol, not a request.
const PARTING_MS: f64 = 8.0;

fn closed_by_owner(story: &Story<'_>) -> bool {
    story.pending() && story.end.how == UnixHow::Closed
}

fn found(by: By, cause: Cause) -> Finding {
    Finding::new(by, cause, Impact::RequestLost)
}

fn owner_ended(story: &Story<'_>) -> Option<Finding> {
    if !closed_by_owner(story) && story.end.how != UnixHow::OwnerGone {
        return None;
    }
    let process = story.end.connection.owner.clone()?;
    let culprit =
        Culprit { process, exit: Some(story.owner_exit?), killed_by: story.owner_killer().cloned() };
    Some(found(By::Gateway, Cause::GatewayExited).culprit(Some(culprit)))
}

fn client_gone(story: &Story<'_>) -> Option<Finding> {
    let left = story.client_left.as_ref().filter(|_| closed_by_owner(story))?;
    let finding = found(By::Client, Cause::ClientGone);
    Some(if left.same_process { finding } else { finding.inferred(&[Cause::GatewayTimeout]) })
}

/// The request still waited in the socket when the gateway gave up: the server was busy with others, or stands still.
fn never_read(story: &Story<'_>) -> Option<Finding> {
    let waited = story.since_request_ms()? >= SHORTEST_TIMEOUT_MS;
    let unread = closed_by_owner(story) && waited && !story.request_was_read() && !story.vantage;
    unread.then(|| found(By::Gateway, Cause::NeverAccepted).culprit(server(story)))
}

fn gave_up(story: &Story<'_>) -> Option<Finding> {
    let waited = story.since_request_ms()? >= SHORTEST_TIMEOUT_MS;
    (closed_by_owner(story) && waited).then(|| {
        let finding = found(By::Gateway, Cause::GatewayTimeout);
        // Whether anybody has read it cannot be seen from here.
        if story.vantage { finding.inferred(&[Cause::NeverAccepted]) } else { finding }
    })
}

fn closed_here(story: &Story<'_>) -> Option<Finding> {
    let ended = closed_by_owner(story) || story.end.how == UnixHow::OwnerGone;
    let parting = story.since_request_ms().is_some_and(|ms| ms < PARTING_MS);
    let impact = if parting { Impact::Unknown } else { Impact::RequestLost };
    ended.then(|| Finding::new(By::Gateway, Cause::GatewayClosed, impact).inferred(&[Cause::ClientGone]))
}

/// The process that served it had ended, and had not closed it before.
fn server_ended(story: &Story<'_>) -> Option<Finding> {
    let (cause, culprit) = story.server_death.clone().filter(|_| story.left())?;
    let impact = match story.end.how {
        _ if story.pending() => Impact::RequestLost,
        UnixHow::Reset if story.end.connection.bytes_received > 0 => Impact::ResponseTruncated,
        _ => return None,
    };
    Some(Finding::new(By::Upstream, cause, impact).culprit(Some(culprit)))
}

/// The listener was closed with this connection still in its backlog.
fn never_accepted(story: &Story<'_>) -> Option<Finding> {
    let untouched = story.end.connection.server.is_none() && story.end.connection.exchanges == 0;
    (story.pending() && story.end.how == UnixHow::Reset && untouched && !story.vantage)
        .then(|| found(By::Upstream, Cause::NeverAccepted))
}

/// It had answered before, and closed before it read what was sent last.
fn keepalive_race(story: &Story<'_>) -> Option<Finding> {
    let race = story.left()
        && story.pending()
        && story.end.connection.exchanges > 0
        && !story.request_was_read()
        && !story.vantage;
    race.then(|| found(By::Upstream, Cause::KeepaliveRace).culprit(server(story)))
}

/// Only what is left unread makes the end of a Unix socket a reset: a server closed over it, died over it, or had not
/// come to accept it.
fn reset(story: &Story<'_>) -> Option<Finding> {
    (story.pending() && story.end.how == UnixHow::Reset).then(|| match server(story) {
        Some(culprit) => found(By::Upstream, Cause::ClosedUnreadData).culprit(Some(culprit)),
        None => found(By::Upstream, Cause::ResetWithoutResponse)
            .inferred(&[BEHIND_A_RESET, &[Cause::NeverAccepted]].concat()),
    })
}

fn closed(story: &Story<'_>) -> Option<Finding> {
    (story.left() && story.pending()).then(|| {
        let finding = found(By::Upstream, Cause::ClosedWithoutResponse);
        match server(story) {
            Some(culprit) => finding.culprit(Some(culprit)),
            None => finding.inferred(BEHIND_AN_END),
        }
    })
}

fn reset_mid_response(story: &Story<'_>) -> Option<Finding> {
    let cut = story.end.how == UnixHow::Reset && story.end.connection.bytes_received > 0;
    // What was left unread may be a goodbye that came after a whole response.
    cut.then(|| {
        Finding::new(By::Upstream, Cause::ResetMidResponse, Impact::Unknown)
            .inferred(&[Cause::Graceful])
            .culprit(server(story))
    })
}

fn probe(story: &Story<'_>) -> Option<Finding> {
    let connection = &story.end.connection;
    let unused = connection.bytes_sent == 0 && connection.bytes_received == 0 && !connection.preexisting;
    unused.then(|| Finding::new(side(story), Cause::Probe, Impact::None))
}

fn idle_close(story: &Story<'_>) -> Option<Finding> {
    let connection = &story.end.connection;
    let last = connection.sent_ns.max(connection.received_ns);
    let idle = last.is_some_and(|last| story.ms_since(last) >= IDLE_MS);
    (idle && connection.exchanges > 0).then(|| Finding::new(side(story), Cause::IdleClose, Impact::None))
}

fn graceful(story: &Story<'_>) -> Option<Finding> {
    Some(Finding::new(side(story), Cause::Graceful, Impact::None))
}

fn side(story: &Story<'_>) -> By {
    if story.left() { By::Upstream } else { By::Gateway }
}

/// The process that served it, alive.
fn server(story: &Story<'_>) -> Option<Culprit> {
    let process: Process = story.end.connection.server.clone()?;
    Some(Culprit { process, exit: None, killed_by: None })
}
