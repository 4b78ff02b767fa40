//! Connects that failed without a trace in TCP: the rules, and their words.

use super::finding::Finding;
use super::words::{exit_words, named};
use super::{By, Cause, Confidence, Connection, Culprit, How, Impact, Verdict};
use crate::event::errno::{
    EACCES, EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINVAL, ELOOP, ENETDOWN, ENETUNREACH, ENOBUFS,
    ENOENT, ENOMEM, ENOTDIR, EPERM, EPROTOTYPE, ETIMEDOUT,
};
use crate::event::{ConnectError, Role, Target, errno};
use crate::table::{LastServer, Tables};

/// Sockets that the C library and its modules look for on behalf of every program, and do without: the name service
/// cache (nscd), systemd's user and host names, the log.
const OF_THE_C_LIBRARY: [&str; 4] = ["/var/run/nscd/", "/run/nscd/", "/run/systemd/", "/dev/log"];

/// The evidence.
pub(super) struct Story<'a> {
    error: &'a ConnectError,
    /// Who served the path last.
    last_server: Option<LastServer>,
    vantage: bool,
}

/// A named rule.
pub(super) struct Rule {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "names are for people who read the list, and for tests")
    )]
    pub(super) name: &'static str,
    pub(super) find: fn(&Story<'_>) -> Option<Finding>,
}

pub(super) const RULES: &[Rule] = &[
    Rule { name: "backlog of a Unix socket full", find: backlog_full },
    Rule { name: "no Unix socket there", find: nobody_serves },
    Rule { name: "not permitted to use the Unix socket", find: no_permission },
    Rule { name: "refused by a rule of this host", find: refused_here },
    Rule { name: "no route", find: no_route },
    Rule { name: "no port or memory left", find: no_resource },
    Rule { name: "refused by the peer", find: refused },
    Rule { name: "unanswered", find: unanswered },
];

/// The verdict. None: what could not be reached is not known.
pub fn judge(tables: &Tables, error: &ConnectError) -> Option<Verdict> {
    let target = error.target.as_ref()?;
    let last_server = match target {
        Target::Unix(path) => tables.unix_paths().last(path, tables.processes()),
        _ => None,
    };
    let story = Story { error, last_server, vantage: tables.settings().vantage };
    let mut finding = RULES.iter().find_map(|rule| (rule.find)(&story)).unwrap_or_else(unknown);
    if story.vantage {
        finding.confidence = Confidence::Inferred;
    }
    let owner_listens =
        error.owner.as_ref().map_or_else(Vec::new, |owner| tables.listeners().ports_of(owner));
    Some(verdict(&story, target, finding, owner_listens))
}

fn verdict(story: &Story<'_>, target: &Target, finding: Finding, owner_listens: Vec<u16>) -> Verdict {
    let error = story.error;
    let mut evidence = vec![format!("connect(2) returned {}", errno::words(error.errno))];
    evidence.extend(story.last_server.as_ref().map(|last| {
        let exit =
            last.exit.map_or_else(|| "lives".to_owned(), |exit| format!("ended ({})", exit_words(exit)));
        format!("{} served it last, and {exit}", named(&last.process))
    }));
    Verdict {
        ktime_ns: error.ktime_ns,
        role: Role::Client,
        netns: error.netns,
        upstream: Some(target.clone()),
        listener: None,
        local: None,
        peer: if let Target::Tcp(address) = target { Some(*address) } else { None },
        by: finding.by,
        cause: finding.cause,
        impact: finding.impact,
        confidence: finding.confidence,
        how: How::ConnectError,
        rst_reason: None,
        owner: error.owner.clone(),
        connection: Connection { bytes_sent: Some(0), reused: Some(false), ..Connection::default() },
        evidence,
        summary: summary(story, target, &finding),
        alternatives: finding.alternatives,
        culprit: finding.culprit,
        repeated: false,
        gateway: error.owner_accepts,
        owner_listens,
        shape: None,
        listened_until_ns: None,
    }
}

fn unknown() -> Finding {
    Finding::new(By::Unknown, Cause::Unknown, Impact::ConnectFailed).inferred(&[])
}

fn failed(by: By, cause: Cause) -> Finding {
    Finding::new(by, cause, Impact::ConnectFailed)
}

fn is_unix(story: &Story<'_>) -> bool {
    matches!(story.error.target, Some(Target::Unix(_)))
}

/// A non-blocking connect does not wait for a place in the backlog of a Unix socket.
fn backlog_full(story: &Story<'_>) -> Option<Finding> {
    (is_unix(story) && story.error.errno == EAGAIN).then(|| {
        let culprit = story.last_server.as_ref().map(|last| culprit(last.clone()));
        failed(By::Upstream, Cause::AcceptQueueFull).culprit(culprit)
    })
}

/// No such path, a socket that nobody listens on any more, or one of another type. Programs look for services that
/// need not be there: where nothing is to be seen at all, only a gateway's own attempt, or one at what was served
/// before, harms somebody.
fn nobody_serves(story: &Story<'_>) -> Option<Finding> {
    let Some(Target::Unix(path)) = &story.error.target else { return None };
    let errno = story.error.errno;
    let absent =
        matches!(errno, ENOENT | ENOTDIR | ELOOP) || (errno == ECONNREFUSED && path.starts_with('@'));
    if !absent && !matches!(errno, ECONNREFUSED | EPROTOTYPE) {
        return None;
    }
    let own = story.error.owner_accepts && !OF_THE_C_LIBRARY.iter().any(|start| path.starts_with(start));
    let optional = absent && !own && story.last_server.is_none();
    let impact = if optional { Impact::None } else { Impact::ConnectFailed };
    let culprit = story.last_server.as_ref().filter(|last| last.exit.is_some()).cloned().map(culprit);
    Some(Finding::new(By::Upstream, Cause::NoListener, impact).culprit(culprit))
}

fn no_permission(story: &Story<'_>) -> Option<Finding> {
    (is_unix(story) && matches!(story.error.errno, EACCES | EPERM))
        .then(|| failed(By::Gateway, Cause::GatewayResource))
}

/// A route that prohibits says EACCES, a filter on system calls or sockets EPERM: both are this host's own rules.
fn refused_here(story: &Story<'_>) -> Option<Finding> {
    (!is_unix(story) && matches!(story.error.errno, EACCES | EPERM))
        .then(|| failed(By::Firewall, Cause::FirewallRejected))
}

/// No route, one that says unreachable, one that swallows (EINVAL), or a device that is down.
fn no_route(story: &Story<'_>) -> Option<Finding> {
    let errno = story.error.errno;
    (!is_unix(story) && matches!(errno, ENETUNREACH | EHOSTUNREACH | ENETDOWN | EINVAL))
        .then(|| failed(By::Gateway, Cause::GatewayResource))
}

fn no_resource(story: &Story<'_>) -> Option<Finding> {
    matches!(story.error.errno, EADDRNOTAVAIL | ENOBUFS | ENOMEM)
        .then(|| failed(By::Gateway, Cause::GatewayResource))
}

/// What follows a SYN is told by the change of state; here only if that was lost.
fn refused(story: &Story<'_>) -> Option<Finding> {
    (story.error.errno == ECONNREFUSED)
        .then(|| failed(By::Upstream, Cause::NoListener).inferred(&[Cause::FirewallRejected]))
}

fn unanswered(story: &Story<'_>) -> Option<Finding> {
    (story.error.errno == ETIMEDOUT).then(|| {
        failed(By::Network, Cause::ConnectTimeout)
            .inferred(&[Cause::AcceptQueueFull, Cause::FirewallRejected])
    })
}

fn culprit(last: LastServer) -> Culprit {
    Culprit { process: last.process, exit: last.exit, killed_by: last.killed_by }
}

fn summary(story: &Story<'_>, target: &Target, finding: &Finding) -> String {
    let owner = story.error.owner.as_ref().map_or_else(|| "the owner".into(), named);
    let why = errno::words(story.error.errno);
    match (finding.cause, target) {
        (Cause::AcceptQueueFull, _) => {
            format!("{owner} could not connect to {target}: its backlog is full, the server does not keep up")
        }
        (Cause::NoListener, Target::Unix(_)) => {
            let there = match story.error.errno {
                ECONNREFUSED => "nobody listens there any more",
                EPROTOTYPE => "what is there is no stream socket",
                _ => "there is no such socket",
            };
            let last = story.last_server.as_ref().map_or_else(String::new, |last| {
                let exit = last.exit.map_or_else(String::new, |exit| format!(" ({})", exit_words(exit)));
                format!("; {} served it last{exit}", named(&last.process))
            });
            format!("{owner} could not connect to {target}: {there}{last}")
        }
        (Cause::GatewayResource, Target::Unix(_)) => {
            format!(
                "{owner} may not use {target} ({why}): owner and mode of the socket, or of a directory above it"
            )
        }
        (Cause::GatewayResource, _) => match story.error.errno {
            EADDRNOTAVAIL => format!("{owner} found no free local port or address to connect to {target}"),
            ENOBUFS | ENOMEM => format!("{owner} could not connect to {target}: no memory left ({why})"),
            _ => format!("{owner} has no route to {target} ({why})"),
        },
        (Cause::FirewallRejected, _) => {
            format!("a rule of {owner}'s own host keeps it from connecting to {target} ({why})")
        }
        _ => format!("{owner} could not connect to {target} ({why})"),
    }
}
