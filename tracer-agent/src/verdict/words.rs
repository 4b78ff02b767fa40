//! The words of a verdict: one sentence to act on, and (`facts`) what it stands on.
//!
//! Names that processes choose are put in as they are; `output` escapes them.

pub(super) mod dns;
mod facts;
mod learned;
mod stop;

pub use facts::evidence;

use super::finding::Finding;
use super::{By, Cause, Culprit, Impact, Story, signal_name};
use crate::event::{Exit, Process, Role};

/// A tick at 250 Hz, which most distributions use.
const SHORTEST_MS: f64 = 4.0;

/// `nginx[812]`.
pub(super) fn named(process: &Process) -> String {
    format!("{}[{}]", process.comm, process.tgid)
}

fn owner(story: &Story<'_>) -> String {
    story.end.owner.as_ref().map_or_else(|| "the owner".into(), named)
}

fn culprit(finding: &Finding) -> String {
    finding.culprit.as_ref().map_or_else(|| "the process there".into(), |c| named(&c.process))
}

/// `1.204 s`, `350 ms`, `37 ms`, `less than 4 ms`: the kernel keeps most of these times in ticks, so none is shorter. A
/// timer of half a second or one may fire a millisecond early: nobody looks for 499 ms in a configuration.
pub(super) fn seconds(ms: f64) -> String {
    let ms = to_a_timer(ms);
    if ms >= 1000.0 {
        format!("{:.3} s", ms / 1000.0)
    } else if ms < SHORTEST_MS {
        format!("less than {SHORTEST_MS:.0} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// Times between a tenth of a second and one, to 5 ms.
pub(super) fn to_a_timer(ms: f64) -> f64 {
    if (100.0..1000.0).contains(&ms) { (ms / 5.0).round() * 5.0 } else { ms }
}

/// ` 1.204 s after the request`, or nothing where the age is not known.
fn after_request(story: &Story<'_>) -> String {
    story.since_request_ms().map_or_else(String::new, |ms| format!(" {} after the request", seconds(ms)))
}

/// `exit code 2`, `SIGSEGV`.
pub(super) fn exit_words(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => "gone".into(),
    }
}

pub(super) fn killer(culprit: Option<&Culprit>) -> String {
    culprit.and_then(|c| c.killed_by.as_ref()).map_or_else(String::new, |k| format!(" by {}", named(k)))
}

/// One sentence that an operator can act on.
pub fn summary(story: &Story<'_>, finding: &Finding) -> String {
    if story.connecting() {
        connect_summary(story, finding)
    } else if finding.impact == Impact::None && finding.cause != Cause::SocketDestroyed {
        healthy_summary(story, finding)
    } else if finding.by == By::Upstream {
        upstream_summary(story, finding)
    } else {
        own_summary(story, finding)
    }
}

fn connect_summary(story: &Story<'_>, finding: &Finding) -> String {
    let peer = story.end.tuple.peer;
    match finding.cause {
        Cause::NoListener => match &story.last_listener {
            Some(last) => format!(
                "nothing listens on {peer}; {} ago {} did{}",
                seconds(story.end.ktime_ns.saturating_sub(last.until_ns) as f64 / 1e6),
                named(&last.process),
                last.exit.map_or_else(String::new, |exit| {
                    format!(" ({}{})", exit_words(exit), killer(finding.culprit.as_ref()))
                }),
            ),
            None if story.end.refused_in_netns.is_some() => {
                format!(
                    "nothing listens on {peer}, and nothing has since rstrace started: stale registration, or not up yet"
                )
            }
            None => format!(
                "{peer} refused the connection: nothing listens there, or a packet filter answers for it"
            ),
        },
        Cause::FirewallRejected => match filter(story) {
            Some(filter) => format!("{filter} rejected the connection to {peer}"),
            None => format!("a packet filter on the way to {peer} rejected the connection by ICMP"),
        },
        Cause::HostUnreachable if story.end.unresolved => {
            format!("{peer} cannot be reached: nobody on the link has its address, the host is down or gone")
        }
        Cause::HostUnreachable => {
            format!("{peer} cannot be reached: no such host, no route, or rejected by ICMP")
        }
        Cause::AcceptQueueFull => {
            format!("{peer} takes no more connections: {}", full_queue(story, finding))
        }
        Cause::ConnectTimeout if finding.by == By::Firewall => format!(
            "{} drops the packets between {} and {peer} without a word",
            filter(story).unwrap_or_else(|| "a packet filter".into()),
            owner(story)
        ),
        Cause::ConnectTimeout => format!(
            "{peer} never answered {} SYNs: host gone, packets dropped, or its accept queue is full",
            story.end.retransmits.saturating_add(1)
        ),
        Cause::GatewayConnectTimeout => learned::gateway_timeout(story).unwrap_or_else(|| {
            format!(
                "{} gave up connecting to {peer} before the first SYN was due for an answer",
                owner(story)
            )
        }),
        Cause::GatewayResource => format!("{} found no free local port to connect to {peer}", owner(story)),
        Cause::ClientGone => format!("the client had left, so {} stopped connecting to {peer}", owner(story)),
        Cause::GatewayExited => format!("{} ended while connecting to {peer}", owner(story)),
        _ => format!("the connection to {peer} failed, and the evidence does not say why"),
    }
}

/// `a packet filter of this host (network namespace 4026532246)`, or the gateway's own.
fn filter(story: &Story<'_>) -> Option<String> {
    let netns = story.end.filtered_in_netns.or(story.end.answer_filtered_in_netns)?;
    Some(if netns == story.end.tuple.netns {
        "the gateway's own packet filter".into()
    } else {
        format!("the packet filter of network namespace {netns}")
    })
}

/// `the accept queue of api[991] is full (129 wait, 128 may)`.
fn full_queue(story: &Story<'_>, finding: &Finding) -> String {
    let whose = finding.culprit.as_ref().map_or_else(|| "its".into(), |c| format!("{}'s", named(&c.process)));
    let figures = story
        .full_queue
        .as_ref()
        .map_or_else(String::new, |(queue, _)| format!(" ({} wait, {} may)", queue.waiting, queue.limit));
    format!("{whose} accept queue is full{figures}: it does not accept as fast as connections come")
}

fn upstream_summary(story: &Story<'_>, finding: &Finding) -> String {
    let (owner, culprit_name) = (victim(story), culprit(finding));
    let age = story.since_request_ms().map_or_else(String::new, |ms| format!(" {} old", seconds(ms)));
    let exit = finding.culprit.as_ref().and_then(|c| c.exit);
    if let Some(together) = learned::died_together(story, finding) {
        return format!("{owner} lost a request{age}: {together}");
    }
    match finding.cause {
        Cause::UpstreamTimeout => learned::upstream_timeout(story),
        Cause::OomKilled => format!("{owner} lost a request{age}: {culprit_name} was OOM-killed"),
        Cause::ProcessCrashed => format!(
            "{owner} lost a request{age}: {culprit_name} crashed ({})",
            exit.map_or_else(|| "signal".into(), exit_words)
        ),
        Cause::ProcessKilled => format!(
            "{owner} lost a request{age}: {culprit_name} was killed ({}){}",
            exit.map_or_else(|| "signal".into(), exit_words),
            killer(finding.culprit.as_ref())
        ),
        Cause::ProcessExited => format!(
            "{owner} lost a request{age}: {culprit_name} exited by itself ({})",
            exit.map_or_else(|| "status unknown".into(), exit_words)
        ),
        Cause::WorkerTimeout | Cause::ServiceStopped => {
            format!("{owner} lost a request{age}: {culprit_name} {}", stop::told(story, finding))
        }
        Cause::NeverAccepted => {
            format!(
                "{owner} lost a request{age}: {culprit_name} closed its listener before it had accepted the connection"
            )
        }
        Cause::AcceptQueueFull => {
            format!("{owner} lost a request{age}: {}", full_queue(story, finding))
        }
        Cause::ConnectionForgotten => format!(
            "{owner} lost a request: {} does not know the connection any more: restarted or rebooted without \
             closing it",
            story.end.tuple.peer
        ),
        Cause::ClosedMidResponse => format!(
            "a response to {owner} may be cut short: {culprit_name} ended ({}){} after {} bytes of it",
            exit.map_or_else(|| "status unknown".into(), exit_words),
            killer(finding.culprit.as_ref()),
            story.end.bytes_received
        ),
        Cause::ClosedUnreadData => {
            format!(
                "{owner} lost a request{age}: {culprit_name} closed the connection without having read all of it"
            )
        }
        Cause::ResetWithoutResponse if finding.alternatives.is_empty() => {
            format!(
                "{owner} lost a request: {culprit_name} reset the connection on purpose{}",
                after_request(story)
            )
        }
        Cause::ResetWithoutResponse => {
            format!(
                "{owner} lost a request: the connection was reset{} by the upstream or on the way",
                after_request(story)
            )
        }
        Cause::ClosedWithoutResponse if finding.alternatives.is_empty() => format!(
            "{owner} lost a request: {culprit_name} closed the connection without an answer{} and {}",
            after_request(story),
            exit.map_or_else(
                || "had not ended 0.2 s later".into(),
                |exit| format!("then ended ({})", exit_words(exit))
            )
        ),
        Cause::ClosedWithoutResponse => {
            format!(
                "{owner} lost a request: the upstream closed the connection without an answer{}",
                after_request(story)
            )
        }
        Cause::ResetMidResponse => format!(
            "a response to {owner} may be cut short: reset by the upstream after {} bytes of it",
            story.end.bytes_received
        ),
        Cause::KeepaliveRace => learned::keepalive_race(story),
        _ => format!("{owner} lost a request{age}, and the evidence does not say why"),
    }
}

/// Whose request it was: the owner's, or (where only the accepted end is here) the remote client's.
fn victim(story: &Story<'_>) -> String {
    match story.end.role {
        Role::Client => owner(story),
        Role::Server => story.end.tuple.peer.to_string(),
    }
}

fn own_summary(story: &Story<'_>, finding: &Finding) -> String {
    let (owner, peer) = (owner(story), story.end.tuple.peer);
    match finding.cause {
        Cause::GatewayTimeout => learned::gateway_timeout(story).unwrap_or_else(|| {
            format!(
                "{owner} gave up waiting for {peer} after {}, while its client was still there: its {} timeout, or a \
                 slow upstream",
                seconds(story.ms(story.end.request_age())),
                if story.end.unacked > 0 { "send" } else { "read" },
            )
        }),
        Cause::GatewayClosed => format!(
            "{owner} closed the connection to {peer} with a request pending{}{}",
            after_request(story),
            learned::gateway_closed(story)
        ),
        Cause::ClientGone if story.client_left.is_none() => format!(
            "{owner} closed the connection to {peer} with {} bytes of the answer unread for {}: its client had stopped \
             reading",
            story.end.unread,
            seconds(story.ms(story.end.lrcv_age))
        ),
        Cause::ClientGone => format!(
            "the client {} had left, so {owner} dropped the request to {peer}{}{}",
            story.client_left.as_ref().map_or_else(String::new, |left| left.tuple.peer.to_string()),
            after_request(story),
            // Who leaves has often waited for too long; then the fault is not the client's.
            if story.waits_to_be_accepted() {
                "; nobody there had accepted the connection by then: saturated or frozen"
            } else {
                ""
            }
        ),
        Cause::GatewayExited => format!(
            "{owner} ended with a request to {peer} pending ({}{})",
            finding.culprit.as_ref().and_then(|c| c.exit).map_or_else(|| "status unknown".into(), exit_words),
            killer(finding.culprit.as_ref())
        ),
        Cause::NeverAccepted => format!(
            "{owner} gave up waiting for {peer} after {}: nobody there had accepted the connection, let alone read \
             the request: saturated or frozen",
            seconds(story.ms(story.end.request_age()))
        ),
        Cause::GatewayRejectedResponse => format!(
            "{owner} closed the connection to {peer} with {} bytes of the answer unread: it did not accept what it \
             had read of it",
            story.end.unread
        ),
        Cause::FirewallRejected => format!(
            "{} reset the connection of {owner} to {peer} with a request pending",
            filter(story).unwrap_or_else(|| "a packet filter".into())
        ),
        Cause::MiddleboxReset => format!(
            "the connection of {owner} to {peer} was reset by something between them: neither end sent the RST"
        ),
        Cause::PacketsLost => format!(
            "{peer} acknowledged nothing any more: path broken, host gone, or the flow forgotten on the way \
             ({} retransmissions)",
            story.end.retransmits
        ),
        Cause::SocketDestroyed => {
            format!("{} destroyed the connection of {owner} to {peer}", culprit(finding))
        }
        _ => format!("the connection of {owner} to {peer} ended, and the evidence does not say why"),
    }
}

fn healthy_summary(story: &Story<'_>, finding: &Finding) -> String {
    let peer = story.end.tuple.peer;
    let side = if finding.by == By::Gateway { owner(story) } else { format!("{peer}") };
    match finding.cause {
        Cause::Probe => format!("{side} closed the connection to {peer} unused"),
        Cause::IdleClose => {
            format!("{side} closed the connection after {} without data", seconds(story.idle_ms()))
        }
        _ => format!("{side} closed the connection, nothing was owed"),
    }
}
