//! nginx's error log: `2026/11/21 12:03:07 [error] 812#812: *55 connect() failed (111: Connection refused) while
//! connecting to upstream, client: …, server: …, request: "…", upstream: "http://10.0.3.7:9000/", host: "…"`.
//!
//! Seconds in the zone of nginx. What a syslog or a container's runtime puts before the date is passed over.
//! There is no crate that reads this log: those that know nginx know its access log.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::event::Target;
use crate::proxy_log::{Class, Entry, Failure, Upstream, Window};

/// How far into a line its date is looked for.
const LONGEST_PREFIX: usize = 200;
/// `2026/11/21 12:03:07`
const DATE: usize = 19;

/// What one line says.
#[must_use]
pub fn error_line(number: u64, line: &str, zone: &TimeZone) -> Entry {
    let Some((time, level, message)) = parts(line, zone) else { return Entry::Unknown };
    let said = said(message);
    let Some(class) = class(level, said) else { return Entry::Other };
    let Some(window) = Window::new(time, SignedDuration::from_secs(1)) else { return Entry::Unknown };
    let upstream = match class {
        Class::NotResolved => unresolved(said).map(|name| Upstream::At(Target::Dns(name.to_owned()))),
        Class::NameUnknownAtStart => said.split('"').nth(1).map(|name| Upstream::Named(name.to_owned())),
        _ => upstream(message),
    };
    Entry::Failures(vec![Failure::new(number, window, class, said).of(upstream)])
}

/// Time, level, and what follows the connection's number.
fn parts<'a>(line: &'a str, zone: &TimeZone) -> Option<(Timestamp, &'a str, &'a str)> {
    let at = (0..line.len().min(LONGEST_PREFIX)).find(|at| {
        let date = line.as_bytes().get(*at..at + DATE);
        date.is_some_and(is_date) && line[at + DATE..].starts_with(" [")
    })?;
    let (date, rest) = line[at..].split_at(DATE);
    let date = DateTime::strptime("%Y/%m/%d %H:%M:%S", date).ok()?;
    let time = date.to_zoned(zone.clone()).ok()?.timestamp();
    let (level, rest) = rest.strip_prefix(" [")?.split_once("] ")?;
    // `812#812: *55 message`: process, thread, connection.
    let (_, message) = rest.split_once(": ")?;
    let numbered = message.strip_prefix('*').and_then(|text| text.split_once(' '));
    Some((time, level, numbered.map_or(message, |(_, message)| message)))
}

fn is_date(bytes: &[u8]) -> bool {
    let shape = b"0000/00/00 00:00:00";
    bytes
        .iter()
        .zip(shape)
        .all(|(byte, like)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like })
}

/// The message without what nginx says of the request.
fn said(message: &str) -> &str {
    let ends =
        [", client: ", ", server: ", ", upstream: "].iter().filter_map(|mark| message.find(mark)).min();
    &message[..ends.unwrap_or(message.len())]
}

/// What the message tells of an upstream; None if it tells of something else.
fn class(level: &str, said: &str) -> Option<Class> {
    let starts = |what: &str| said.starts_with(what);
    let has = |what: &str| said.contains(what);
    if has("client prematurely closed connection, so upstream connection is closed too")
        || (starts("client timed out") && has("upstream"))
    {
        return Some(Class::ClientGone);
    }
    // Below that, nginx tells of clients, and of servers that it leaves out for a while.
    if !matches!(level, "error" | "crit" | "alert" | "emerg") {
        return None;
    }
    let phase = said.rsplit_once(" while ").map_or("", |(_, phase)| phase);
    Some(match errno(said) {
        _ if starts("no live upstreams") => Class::NoLiveUpstreams,
        _ if starts("no resolver defined") => Class::NoResolver,
        _ if has(" could not be resolved") => Class::NotResolved,
        _ if starts("host not found in upstream") => Class::NameUnknownAtStart,
        _ if has("worker_connections are not enough") => Class::NoWorkerConnections,
        _ if starts("worker process") && has("exited on signal") => Class::WorkerDied,
        Some(23 | 24) => Class::NoDescriptor,
        _ if starts("upstream timed out") && phase == "connecting to upstream" => Class::ConnectTimedOut,
        _ if starts("upstream timed out") => Class::TimedOut,
        _ if starts("upstream prematurely closed") && phase == "reading upstream" => Class::CutShort,
        _ if starts("upstream prematurely closed") || starts("upstream closed prematurely") => Class::Closed,
        _ if starts("peer closed connection in SSL handshake")
            || starts("SSL_do_handshake() failed")
            || starts("upstream SSL certificate") =>
        {
            Class::TlsFailed
        }
        _ if starts("upstream sent too big header") => Class::HeaderTooBig,
        _ if starts("upstream sent ") || starts("upstream rejected request") => Class::InvalidAnswer,
        Some(errno) if starts("connect() ") => connect_error(errno),
        Some(98 | 99 | 105) if starts("bind(") || starts("socket() ") => Class::NoResource,
        errno if has("() failed") && (has(" upstream") || starts_of_tunnel(phase)) => broken(errno, phase),
        _ => return None,
    })
}

/// Of a WebSocket or of a stream: the levels below `error` are for its client.
fn starts_of_tunnel(phase: &str) -> bool {
    matches!(phase, "proxying upgraded connection" | "proxying connection")
}

fn connect_error(errno: i32) -> Class {
    match errno {
        libc::ECONNREFUSED | libc::ENOENT => Class::Refused,
        libc::EAGAIN => Class::BacklogFull,
        libc::EACCES | libc::EPERM => Class::NotPermitted,
        libc::ETIMEDOUT => Class::ConnectTimedOut,
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EINVAL => Class::Unreachable,
        libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM => Class::NoResource,
        // While the handshake went on.
        _ => Class::Reset,
    }
}

/// A read or a write that failed.
fn broken(errno: Option<i32>, phase: &str) -> Class {
    match errno {
        Some(libc::ECONNABORTED) => Class::Destroyed,
        Some(libc::ETIMEDOUT | libc::EHOSTUNREACH) => Class::Unacknowledged,
        _ if phase == "reading upstream" => Class::CutShort,
        _ => Class::Reset,
    }
}

/// The number in `failed (111: Connection refused)`.
fn errno(said: &str) -> Option<i32> {
    said.split(" (").skip(1).find_map(|text| text.split_once(": ")?.0.parse().ok())
}

/// The name in `api.example could not be resolved (3: Host not found)`.
fn unresolved(said: &str) -> Option<&str> {
    said.split(" could not be resolved").next().filter(|name| !name.is_empty())
}

/// The address in `upstream: "http://10.0.3.7:9000/path"`. The request before it and the referrer after it are
/// the client's own words.
fn upstream(message: &str) -> Option<Upstream> {
    const MARK: &str = ", upstream: \"";
    let before_host = message.split("\", host: \"").next().unwrap_or(message);
    let url = &before_host[before_host.rfind(MARK)? + MARK.len()..];
    let url = url.split('"').next().unwrap_or(url);
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    match address.strip_prefix(Target::UNIX) {
        Some(path) => Upstream::parse(&format!("{}{}", Target::UNIX, path.split(':').next().unwrap_or(path))),
        None => Upstream::parse(address.split('/').next().unwrap_or(address)),
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
