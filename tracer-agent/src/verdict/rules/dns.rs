//! Names that did not resolve. One rule: the table has decided that it failed, here is how.

use crate::event::errno::ECONNREFUSED;
use tracer_ebpf::config::is_resolver_port;

use crate::event::{Role, Target};
use crate::table::{Lookup, Outcome, Query, Tables};
use crate::verdict::finding::Finding;
use crate::verdict::words::dns as words;
use crate::verdict::{By, Cause, Connection, How, Impact, Verdict};

/// The verdict on a lookup that failed. None: whoever asked is a resolver itself, and asked for somebody else.
pub fn judge(tables: &Tables, lookup: &Lookup) -> Option<Verdict> {
    let owner = lookup.owner();
    let owner_listens = tables.listeners().ports_of(owner);
    if owner_listens.iter().any(|port| is_resolver_port(*port)) {
        return None;
    }
    let query = lookup.decisive();
    let asked = &query.asked;
    let finding = find(query);
    Some(Verdict {
        ktime_ns: lookup.failed_ns(),
        role: Role::Client,
        netns: asked.netns,
        upstream: Some(Target::Dns(lookup.name().to_owned())),
        listener: None,
        local: Some(asked.local),
        peer: Some(asked.resolver),
        by: finding.by,
        cause: finding.cause,
        impact: finding.impact,
        confidence: finding.confidence,
        alternatives: finding.alternatives,
        how: how(query.outcome),
        rst_reason: None,
        owner: Some(owner.clone()),
        culprit: None,
        connection: connection(lookup),
        evidence: words::evidence(lookup),
        summary: words::summary(lookup),
        // Names are often resolved before there is a connection to accept: to listen is enough.
        gateway: asked.owner_accepts || !owner_listens.is_empty(),
        repeated: lookup.repeated,
        owner_listens,
        shape: None,
        listened_until_ns: None,
    })
}

/// What came back proves itself, from wherever one looks. That nothing came is deduced from the time.
fn find(query: &Query) -> Finding {
    let finding = Finding::new(By::Gateway, Cause::DnsFailure, Impact::ConnectFailed);
    if query.outcome == Outcome::Silence { finding.inferred(&[]) } else { finding }
}

fn how(outcome: Outcome) -> How {
    match outcome {
        Outcome::Silence => How::Timeout,
        Outcome::Errno(ECONNREFUSED) => How::Icmp,
        Outcome::Errno(_) => How::SyscallError,
        Outcome::NoData | Outcome::Code(_) => How::ConnectError,
    }
}

/// The figures of the last query: there was no connection.
fn connection(lookup: &Lookup) -> Connection {
    Connection {
        cookie: lookup.decisive().asked.cookie,
        age_ms: Some(lookup.failed_ns().saturating_sub(lookup.asked_ns()) as f64 / 1e6),
        retransmits: lookup.queries.iter().map(|query| query.sent - 1).sum(),
        ..Connection::default()
    }
}
