//! The rules: one ordered list, the first that matches wins. A rule says who and why; it formats nothing.

mod connect;
pub(super) mod dns;
mod healthy;
mod here;
pub mod learned;
mod path;
mod peer;
mod process;

use super::finding::Finding;
use super::words;
use super::{By, Cause, Confidence, Connection, How, Impact, Story, Verdict};
use crate::event::errno::{ECONNABORTED, ETIMEDOUT};
use crate::event::{Role, Target, TcpState};

/// A named rule.
pub struct Rule {
    pub name: &'static str,
    pub find: fn(&Story<'_>) -> Option<Finding>,
}

const fn rule(name: &'static str, find: fn(&Story<'_>) -> Option<Finding>) -> Rule {
    Rule { name, find }
}

/// In order. Connects first; then what was destroyed from outside; then what this side did; then what the peer
/// did, where the accepted end on this host knows best; then what harmed nobody.
pub const RULES: &[Rule] = &[
    rule("no free local port", connect::no_local_port),
    rule("owner died while connecting", connect::owner_died),
    rule("client had gone while connecting", connect::client_gone),
    rule("refused by a packet filter here", path::filter_refused),
    rule("refused by a RST", connect::refused),
    rule("refused by ICMP", path::refused_by_icmp),
    rule("unreachable", connect::unreachable),
    rule("SYN dropped by a packet filter here", path::filter_silent),
    rule("SYNs found the accept queue full", path::queue_full),
    rule("SYNs unanswered", connect::unanswered),
    rule("given up before an answer was due", connect::given_up),
    rule("destroyed by an operator", here::destroyed),
    rule("probes or retransmissions unanswered", here::timed_out),
    rule("half closed", healthy::half_closed),
    rule("owner died with a request pending", here::owner_died),
    rule("handshake dropped by a full accept queue", path::queue_dropped),
    rule("request never acknowledged", here::never_acknowledged),
    rule("client had gone", here::client_gone),
    rule("gateway gave up before anybody accepted", here::never_accepted),
    rule("gateway gave up waiting", here::gave_up),
    rule("gateway closed early", here::closed),
    rule("gateway closed over an answer that its client did not take", here::client_stalled),
    rule("gateway closed over an answer it did not read", here::rejected),
    rule("accepted end destroyed by an operator", peer::destroyed),
    rule("handshake reset by a full accept queue", path::queue_reset),
    rule("reset by a packet filter here", path::filter_reset),
    rule("answered as a stranger", path::forgotten),
    rule("reset by neither end", path::forged),
    rule("accepted socket died unaccepted", peer::never_accepted),
    rule("request crossed an idle close", peer::keepalive_race),
    rule("process behind it ended", process::ended),
    rule("process behind it died in the middle of a response", process::ended_mid_response),
    rule("closed at an age that repeats", learned::upstream_timeout),
    rule("closed with the request unread", peer::closed_unread),
    rule("reset on purpose", peer::reset),
    rule("goodbye answered by a goodbye", healthy::goodbye_answered),
    rule("closed without a response", peer::closed),
    rule("goodbyes crossed", healthy::goodbyes_crossed),
    rule("closed over the rest of what it had answered", healthy::answered_early),
    rule("reset in the middle of a response", peer::reset_mid_response),
    rule("accepted socket failed its client", process::server_side),
    rule("probe", healthy::probe),
    rule("idle close", healthy::idle_close),
    rule("graceful", healthy::graceful),
];

/// Judges a story. None: nothing to say (an accepted socket whose client left, or was served).
#[must_use]
pub fn judge(story: &Story<'_>) -> Option<Verdict> {
    let found = RULES.iter().find_map(|rule| (rule.find)(story));
    let mut finding = match (found, story.end.role) {
        (Some(finding), _) => finding,
        (None, Role::Server) => return None,
        (None, Role::Client) => unknown(),
    };
    // From the gateway's end alone all is deduced; who has the upstream's end saw what its process did.
    if story.vantage && story.end.role == Role::Client {
        finding.confidence = Confidence::Inferred;
    }
    Some(verdict(story, finding))
}

fn unknown() -> Finding {
    Finding {
        by: By::Unknown,
        cause: Cause::Unknown,
        impact: Impact::Unknown,
        confidence: Confidence::Inferred,
        alternatives: vec![],
        culprit: None,
    }
}

fn verdict(story: &Story<'_>, finding: Finding) -> Verdict {
    let end = story.end;
    let evidence = words::evidence(story, &finding);
    let summary = words::summary(story, &finding);
    Verdict {
        ktime_ns: end.ktime_ns,
        role: end.role,
        netns: end.tuple.netns,
        upstream: (end.role == Role::Client).then_some(Target::Tcp(end.tuple.peer)),
        listener: (end.role == Role::Server).then_some(end.tuple.local),
        local: Some(end.tuple.local),
        peer: Some(end.tuple.peer),
        by: finding.by,
        cause: finding.cause,
        impact: finding.impact,
        confidence: finding.confidence,
        alternatives: finding.alternatives,
        how: how(story),
        rst_reason: reason(story),
        owner: end.owner.clone().or_else(|| if end.role == Role::Server { end.actor.clone() } else { None }),
        culprit: finding.culprit,
        connection: connection(story),
        evidence,
        summary,
        gateway: end.owner_accepts,
        repeated: false,
        owner_listens: story.owner_listens.clone(),
        shape: end.shape,
        listened_until_ns: story.last_listener.as_ref().map(|last| last.until_ns),
    }
}

fn how(story: &Story<'_>) -> How {
    let end = story.end;
    if story.connecting() {
        return match end.sk_err {
            _ if end.rst_received || end.refused_in_netns.is_some() => How::RstReceived,
            ETIMEDOUT => How::Timeout,
            0 if end.retransmits > 0 => How::Timeout,
            0 => How::ConnectError,
            _ => How::Icmp,
        };
    }
    match end.new_state {
        // The request came too late: what ended the connection is the FIN before it.
        _ if end.old_state == TcpState::CloseWait => How::FinReceived,
        _ if end.rst_received => How::RstReceived,
        TcpState::CloseWait => How::FinReceived,
        TcpState::FinWait1 => How::FinSent,
        _ if end.sk_err == ETIMEDOUT => How::Timeout,
        _ if matches!(end.sk_err, 0 | ECONNABORTED) => How::RstSent,
        _ => How::SyscallError,
    }
}

/// The reason of the RST that ended it: ours, or the one that the other end on this host sent.
fn reason(story: &Story<'_>) -> Option<u32> {
    let sent = if story.rst_received() { story.other_reset } else { story.reset };
    sent.and_then(|reset| reset.reason)
}

fn connection(story: &Story<'_>) -> Connection {
    let end = story.end;
    Connection {
        cookie: end.cookie,
        age_ms: end.opened_ns.map(|opened| end.ktime_ns.saturating_sub(opened) as f64 / 1e6),
        bytes_sent: Some(end.bytes_sent),
        bytes_received: end.bytes_received,
        since_request_ms: story.since_request_ms(),
        reused: (end.role == Role::Client && end.marked && !end.preexisting).then_some(end.exchanges > 0),
        retransmits: end.retransmits,
        srtt_us: (end.srtt_us != 0).then_some(end.srtt_us),
        end_seq: end.end_seq(),
    }
}
