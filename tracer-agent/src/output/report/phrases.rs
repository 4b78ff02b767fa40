//! Short words: what a cause did to an upstream, moments, lengths of time, shares, numbers of things.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Culprit, Group};
use crate::verdict::Cause;

/// What happened to an upstream, as the end of a sentence that names it.
pub fn of_cause(cause: Cause) -> &'static str {
    match cause {
        Cause::NoListener => "nothing listens there",
        Cause::AcceptQueueFull => "its accept queue is full",
        Cause::NeverAccepted => "established connections were never accepted",
        Cause::ConnectionForgotten => "it does not know its connections any more (restarted or rebooted)",
        Cause::ConnectTimeout => "no answer to SYNs",
        Cause::HostUnreachable => "the host is unreachable",
        Cause::FirewallRejected => "a packet filter rejects",
        Cause::GatewayResource => "the gateway has no route there, or no free port",
        Cause::GatewayConnectTimeout => "the gateway gave up connecting",
        Cause::DnsFailure => "the name does not resolve",
        Cause::ProcessCrashed => "its process crashed",
        Cause::ProcessKilled => "its process was killed",
        Cause::ProcessExited => "its process exited",
        Cause::OomKilled => "its process was OOM-killed",
        Cause::WorkerTimeout => "its master ended workers that took too long",
        Cause::ServiceStopped => "it was stopped or reloaded with requests in flight",
        Cause::UpstreamTimeout => "its own timeout ended requests",
        Cause::ClosedWithoutResponse => "it closed without an answer",
        Cause::ResetWithoutResponse => "it reset without an answer",
        Cause::ClosedUnreadData => "it closed with requests unread",
        Cause::ResetMidResponse => "it reset in the middle of answers",
        Cause::ClosedMidResponse => "it closed in the middle of answers",
        Cause::KeepaliveRace => "it closed idle connections while requests were on their way",
        Cause::GatewayTimeout => "the gateway gave up waiting for answers",
        Cause::GatewayClosed => "the gateway closed with requests pending",
        Cause::GatewayRejectedResponse => "the gateway closed on what it had read",
        Cause::GatewayExited => "the gateway's own process ended",
        Cause::ClientGone => "clients left before the answer",
        Cause::PacketsLost => "packets were lost on the way",
        Cause::MiddleboxReset => "something on the way reset connections",
        Cause::SocketDestroyed => "somebody destroyed sockets (ss -K)",
        Cause::IdleClose | Cause::Graceful | Cause::Probe => "nobody was harmed",
        Cause::Unknown => "the cause is not known",
    }
}

/// What happened to the upstream of a group, and who did it.
pub fn of_group(group: &Group, clock: &Clock) -> String {
    let cause = of_cause(group.cause);
    let Some(culprit) = group.culprits.first() else { return cause.to_owned() };
    let who = who(culprit);
    let Some(ended) = &culprit.ended else { return format!("{cause} ({who})") };
    match group.cause {
        Cause::OomKilled | Cause::ProcessCrashed | Cause::ProcessKilled | Cause::ProcessExited => {
            let at = clock.moment(culprit.first);
            match culprit.processes {
                1 => format!("{who} {ended} at {at}"),
                times => format!("{} {ended} {times} times, first at {at}", culprit.comm),
            }
        }
        Cause::NoListener => format!("{cause}; {who} did, {ended}"),
        _ => format!("{cause} ({who} {ended})"),
    }
}

/// `api[991]`, or `api` where there were several.
pub fn who(culprit: &Culprit) -> String {
    match &culprit.pids[..] {
        [pid] => format!("{}[{pid}]", culprit.comm),
        _ => culprit.comm.clone(),
    }
}

/// Tells times as of one moment in one zone.
#[derive(Clone, Debug)]
pub struct Clock {
    pub zone: TimeZone,
    pub now: Timestamp,
}

impl Clock {
    /// The time of day, with the date where it is not today's.
    pub fn moment(&self, time: Timestamp) -> String {
        let [time, now] = [time, self.now].map(|time| time.to_zoned(self.zone.clone()));
        let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        time.strftime(format).to_string()
    }

    /// How long ago.
    pub fn ago(&self, time: Timestamp) -> String {
        format!("{} ago", length(self.now.duration_since(time)))
    }

    /// `UTC+01:00`.
    pub fn zone(&self) -> String {
        format!("UTC{}", self.now.to_zoned(self.zone.clone()).strftime("%:z"))
    }
}

/// `40 ms`, `4.2 s`, `17 min`, `2 h 5 min`, `3 d 4 h`.
pub fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    match seconds {
        0 => format!("{} ms", length.as_millis().max(0)),
        1..10 => format!("{:.1} s", length.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 if seconds % 60 == 0 || seconds >= 600 => format!("{} min", seconds / 60),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 if seconds % 3600 < 60 => format!("{} h", seconds / 3600),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ if seconds % 86_400 < 3600 => format!("{} d", seconds / 86_400),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `97 %`; 100 only if it is all, 0 only if it is nothing.
pub fn share(part: u64, of: u64) -> String {
    let percent = match part.saturating_mul(100).saturating_add(of / 2).checked_div(of) {
        _ if part >= of => 100,
        Some(0) if part > 0 => 1,
        Some(100) => 99,
        percent => percent.unwrap_or_default(),
    };
    format!("{percent} %")
}

/// `1 request`, `2 requests`.
pub fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        // "process" is the only one that needs more than an s.
        _ if thing.ends_with('s') => format!("{number} {thing}es"),
        _ => format!("{number} {thing}s"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
