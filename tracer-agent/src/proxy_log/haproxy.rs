//! HAProxy's log in the forms of `option httplog` and `option tcplog`: one line a session, with how it ended.
//!
//! `10.0.1.9:40000 [21/Nov/2026:12:03:07.412] clients servers/api 0/0/0/-1/1 502 209 - - SH-- 1/1/0/0/0 0/0 "GET …"`.
//! Milliseconds in the zone of HAProxy; what a syslog puts before is passed over. Servers have names there and no
//! addresses, unless ` %bi:%bp %si:%sp` (own and server's address) are added behind.

use std::net::SocketAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::failure::canonical;
use super::{Class, Entry, Failure, Upstream, Window};
use crate::event::Target;

/// Names of HAProxy's processes.
pub const COMMS: &[&str] = &["haproxy"];

/// What to add so that the log says the addresses.
pub const ADVICE: &str = "HAProxy's log names servers without their addresses: add them with `log-format \"%ci:%cp [%tr] \
    %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %bi:%bp %si:%sp\"` (in TCP \
    mode: `log-format \"%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq %bi:%bp %si:%sp\"`)";

/// `21/Nov/2026:12:03:07.412`
const DATE: usize = 24;
/// Brackets before the one with the date.
const MOST_BRACKETS: usize = 16;
/// How exact the sum of the date and the timers is.
const ABOUT: SignedDuration = SignedDuration::from_millis(20);

/// What one line says.
#[must_use]
pub fn log_line(number: u64, line: &str, zone: &TimeZone) -> Entry {
    let Some((begin, rest)) = parts(line, zone) else { return Entry::Unknown };
    // `clients/1: SSL handshake failure` and the like are about clients.
    let Some(session) = Session::read(rest) else { return Entry::Other };
    let Some(class) = session.class() else { return Entry::Other };
    let window = session.duration.and_then(|duration| begin.checked_add(duration).ok());
    let window =
        window.and_then(|end| end.checked_sub(ABOUT).ok()).and_then(|from| Window::new(from, ABOUT * 2));
    let Some(window) = window else { return Entry::Unknown };
    let status = session.status.map_or(String::new(), |status| format!("{status} "));
    let said = format!("{status}{} {} {}", session.state, session.server, session.request);
    let mut failure = Failure::new(number, window, class, said.trim_end());
    failure.local = session.local;
    failure.upstream = match session.address {
        Some(address) => Some(Upstream::At(canonical(Target::Tcp(address)))),
        None => Upstream::parse(session.server),
    };
    Entry::Failures(vec![failure])
}

/// When the session began, and what follows the date.
fn parts<'a>(line: &'a str, zone: &TimeZone) -> Option<(Timestamp, &'a str)> {
    line.match_indices('[').take(MOST_BRACKETS).find_map(|(at, _)| {
        let date = line.get(at + 1..at + 1 + DATE)?;
        let rest = line.get(at + 1 + DATE..)?.strip_prefix("] ")?;
        let date = DateTime::strptime("%d/%b/%Y:%H:%M:%S%.f", date).ok()?;
        Some((date.to_zoned(zone.clone()).ok()?.timestamp(), rest))
    })
}

/// A session in either form.
struct Session<'a> {
    /// `backend/server`
    server: &'a str,
    /// From its beginning to its end.
    duration: Option<SignedDuration>,
    status: Option<&'a str>,
    /// `SH--`; in TCP mode `SC`.
    state: &'a str,
    request: &'a str,
    local: Option<SocketAddr>,
    address: Option<SocketAddr>,
}

impl<'a> Session<'a> {
    fn read(rest: &'a str) -> Option<Self> {
        let words: Vec<&str> = rest.split_whitespace().take(64).collect();
        let (server, timers) = (*words.get(1)?, *words.get(2)?);
        if !server.contains('/') {
            return None;
        }
        // With `option logasap` the line comes before the end.
        let timers: Vec<i64> = timers
            .split('/')
            .map(|timer| timer.trim_start_matches('+').parse().ok())
            .collect::<Option<_>>()?;
        let (http, last) = match timers.as_slice() {
            [_, _, _, _, last] => (true, *last),
            [_, _, last] => (false, *last),
            _ => return None,
        };
        let state = *words.get(if http { 7 } else { 4 })?;
        let known = |c: char| c.is_ascii_alphabetic() || c == '-';
        if state.len() != (if http { 4 } else { 2 }) || !state.chars().all(known) {
            return None;
        }
        let request = rest.find('"').map_or("", |at| &rest[at..]);
        let behind = if http { rest.rsplit_once('"').map_or("", |(_, behind)| behind) } else { rest };
        let mut addresses = behind.split_whitespace().rev().take(2).map(|word| word.parse().ok());
        let (address, local) = (addresses.next().flatten(), addresses.next().flatten());
        Some(Self {
            server,
            // In milliseconds; -1 if it did not come to that.
            duration: Some(SignedDuration::from_millis(last.max(0))),
            status: if http { words.get(3).copied() } else { None },
            state,
            request: request.rsplit_once('"').map_or(request, |(request, _)| request).trim_start_matches('"'),
            local: address.and(local),
            address,
        })
    }

    /// The first letter says who ended it, the second when (configuration manual, "Session state at
    /// disconnection").
    fn class(&self) -> Option<Class> {
        let mut letters = self.state.chars();
        match (letters.next()?, letters.next()?) {
            ('S', 'C') if self.server.ends_with("/<NOSRV>") => Some(Class::NoLiveUpstreams),
            ('S' | 's', 'Q') => Some(Class::QueueTimedOut),
            ('S', 'C') => Some(Class::ConnectFailed),
            ('s', 'C') => Some(Class::ConnectTimedOut),
            ('S', 'H') => Some(Class::Broken),
            ('S', 'D' | 'L') => Some(Class::CutShort),
            ('s', 'H' | 'D' | 'L') => Some(Class::TimedOut),
            ('P', 'H' | 'D') if self.address.is_some() || !self.server.contains('<') => {
                Some(Class::InvalidAnswer)
            }
            ('P' | 'R', 'C') => Some(Class::NoResource),
            ('D', _) => Some(Class::MarkedDown),
            ('C', 'H') => Some(Class::ClientGone),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = "10.0.1.9:40000 [21/Nov/2026:12:03:07.412] clients servers/api 0/0/0/-1/1200 502 209 - - SH-- \
                        1/1/0/0/0 0/0 {agent} \"GET /x?y=\"1 HTTP/1.1\"";
    const TCP: &str =
        "10.0.1.9:40000 [21/Nov/2026:12:03:07.412] clients servers/api 1/-1/3003 0 SC 1/1/0/0/3 0/0";

    fn read(line: &str) -> Entry {
        log_line(1, line, &TimeZone::UTC)
    }

    fn failure(line: &str) -> Failure {
        match read(line) {
            Entry::Failures(mut failures) if failures.len() == 1 => failures.remove(0),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_session_ends_when_its_timers_say() {
        let found = failure(HTTP);
        assert_eq!(found.window.from.to_string(), "2026-11-21T12:03:08.592Z");
        assert_eq!(found.window.until.to_string(), "2026-11-21T12:03:08.632Z");
        assert_eq!(found.upstream, Some(Upstream::Named("servers/api".to_owned())));
        assert_eq!(
            (found.class, &*found.said),
            (Class::Broken, "502 SH-- servers/api GET /x?y=\"1 HTTP/1.1")
        );
        let found = failure(TCP);
        assert_eq!(found.window.from.to_string(), "2026-11-21T12:03:10.395Z");
        assert_eq!((found.class, &*found.said), (Class::ConnectFailed, "SC servers/api"));
        assert_eq!(failure(&format!("<134>Nov 21 12:03:07 gw [x] haproxy[812]: {HTTP}")), failure(HTTP));
    }

    /// Recorded with HAProxy 2.6.12.
    #[test]
    fn each_state_has_its_class() {
        for (state, class) in [
            ("SC--", Class::ConnectFailed),
            ("sC--", Class::ConnectTimedOut),
            ("SH--", Class::Broken),
            ("SD--", Class::CutShort),
            ("sH--", Class::TimedOut),
            ("PH--", Class::InvalidAnswer),
            ("CH--", Class::ClientGone),
            ("sQ--", Class::QueueTimedOut),
            ("SHVN", Class::Broken),
        ] {
            assert_eq!(failure(&HTTP.replace("SH--", state)).class, class, "{state}");
        }
        let down =
            HTTP.replace("servers/api", "servers/<NOSRV>").replace("SH--", "SC--").replace(" 502 ", " 503 ");
        assert_eq!(failure(&down).class, Class::NoLiveUpstreams);
        for state in ["----", "CD--", "PR--", "LR--", "cD--"] {
            assert_eq!(read(&HTTP.replace("SH--", state)), Entry::Other, "{state}");
        }
    }

    #[test]
    fn added_addresses_are_read() {
        for (line, upstream) in [
            (format!("{HTTP} 10.0.1.2:50001 10.0.3.7:9000"), "10.0.3.7:9000"),
            (format!("{TCP} 10.0.1.2:50001 10.0.3.7:9000"), "10.0.3.7:9000"),
            (format!("{HTTP} ::ffff:10.0.1.2:50001 -:-"), "servers/api"),
        ] {
            let found = failure(&line);
            assert_eq!(found.upstream.unwrap().to_string(), upstream);
            let local = (upstream != "servers/api").then(|| "10.0.1.2:50001".parse().unwrap());
            assert_eq!(found.local, local);
        }
    }

    #[test]
    fn other_lines_are_told_from_lines_of_other_logs() {
        for line in [
            "10.0.1.9:40000 [21/Nov/2026:12:03:07.412] clients/1: SSL handshake failure",
            "10.0.1.9:40000 [21/Nov/2026:12:03:07.412] clients clients/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR-- 1/1/0/0/0 0/0 \"<BADREQ>\"",
        ] {
            assert_eq!(read(line), Entry::Other, "{line}");
        }
        for line in [
            "",
            "Proxy clients started.",
            "Server servers/api is DOWN, reason: Layer4 connection problem",
            "[21/Nov/2026:12:03:07 +0000] \"GET / HTTP/1.1\" 502",
        ] {
            assert_eq!(read(line), Entry::Unknown, "{line}");
        }
    }
}
