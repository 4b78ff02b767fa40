//! Ends of Unix stream sockets: what is said of them, by rules of their own.
//!
//! A Unix connection has no states, no sequence numbers and no packets. What is known is each message, who sent and
//! who read it, and how the processes at both ends fared: both are on this host.

mod rules;
mod story;
mod words;

pub use rules::RULES;
use story::Story;

use super::finding::Finding;
use super::{By, Cause, Confidence, Connection, How, Impact, Verdict};
use crate::event::{Role, Target, UnixEnd, UnixHow};
use crate::table::Tables;

/// The verdict on an end. None: whose connection it was is not known.
pub fn judge(tables: &Tables, end: &UnixEnd) -> Option<Verdict> {
    if end.connection.path.is_empty() {
        return None;
    }
    let story = Story::gather(tables, end);
    let mut finding = RULES.iter().find_map(|rule| (rule.find)(&story)).unwrap_or_else(unknown);
    if story.vantage {
        finding.confidence = Confidence::Inferred;
    }
    Some(verdict(&story, finding))
}

fn unknown() -> Finding {
    Finding::new(By::Unknown, Cause::Unknown, Impact::Unknown).inferred(&[])
}

fn verdict(story: &Story<'_>, finding: Finding) -> Verdict {
    let connection = &story.end.connection;
    Verdict {
        ktime_ns: story.end.ktime_ns,
        role: Role::Client,
        netns: connection.netns,
        upstream: Some(Target::Unix(connection.path.clone())),
        listener: None,
        local: None,
        peer: None,
        by: finding.by,
        cause: finding.cause,
        impact: finding.impact,
        confidence: finding.confidence,
        how: match story.end.how {
            UnixHow::EndOfStream => How::FinReceived,
            UnixHow::Reset => How::RstReceived,
            UnixHow::Broken => How::SyscallError,
            UnixHow::Closed | UnixHow::OwnerGone => How::FinSent,
        },
        rst_reason: None,
        owner: connection.owner.clone(),
        connection: Connection {
            cookie: connection.ino,
            age_ms: connection.opened_ns.map(|opened| story.ms_since(opened)),
            bytes_sent: Some(connection.bytes_sent),
            bytes_received: connection.bytes_received,
            since_request_ms: story.since_request_ms(),
            reused: (!connection.preexisting).then_some(connection.exchanges > 0),
            retransmits: 0,
            srtt_us: None,
            end_seq: None,
        },
        evidence: words::evidence(story, &finding),
        summary: words::summary(story, &finding),
        alternatives: finding.alternatives,
        culprit: finding.culprit,
        repeated: false,
        gateway: connection.owner_accepts,
        owner_listens: story.owner_listens.clone(),
        shape: None,
        listened_until_ns: None,
    }
}
