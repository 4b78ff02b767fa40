//! Which verdicts are wanted: the same words for every command that shows some.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

use super::{Netns, WordError, duration};
use crate::output::filter::{GatewayFilter, ProcessFilter, UpstreamFilter};
use crate::output::selection::{Filter, Span};
use crate::verdict::{By, Cause, Impact};

/// Which verdicts to show. Values of one kind are alternatives, kinds have to hold together.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which verdicts (lists with commas; a repeated option adds to its list)")]
pub struct FilterArgs {
    /// Also show what harmed nobody
    #[arg(long)]
    pub all: bool,

    /// Only from this moment on: 15m (ago), 12:03, 2026-11-20T12:03 or a time with its zone
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<When>,

    /// Only before this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<When>,

    /// Only connections to this upstream: an address, address and port, network, unix:/path or
    /// dns:name
    #[arg(long, value_name = "ADDR[:PORT]|CIDR|unix:PATH|dns:NAME", value_delimiter = ',')]
    pub upstream: Vec<UpstreamFilter>,

    /// Only those that this side ended: upstream, gateway, client, firewall, network, operator, unknown
    #[arg(long, value_name = "SIDE", value_delimiter = ',')]
    pub by: Vec<By>,

    /// Only those with this cause, such as oom_killed
    #[arg(long, value_delimiter = ',')]
    pub cause: Vec<Cause>,

    /// Only those with this impact: connect_failed, request_lost, response_truncated, unknown, none
    #[arg(long, value_delimiter = ',')]
    pub impact: Vec<Impact>,

    /// Only those of this process, by its command or pid: the owner of the socket, or the culprit
    #[arg(long, value_name = "COMM|PID", value_delimiter = ',')]
    pub process: Vec<ProcessFilter>,

    /// Only those whose owner runs in this container: its id, or how it begins
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = container)]
    pub container: Vec<String>,

    /// Only those whose owner or culprit runs in this pod: its name with or without its namespace, or how that begins
    #[arg(long, value_name = "NAMESPACE/NAME", value_delimiter = ',', value_parser = pod)]
    pub pod: Vec<String>,

    /// Only sockets of this network namespace: a file such as /run/netns/web, or its inode number
    #[arg(long, value_name = "PATH|INUM")]
    pub netns: Vec<Netns>,

    /// Treat this process as a gateway, by its command, cgroup or listening port: show its own closes too
    #[arg(long, value_name = "COMM|CGROUP|PORT")]
    pub gateway: Vec<GatewayFilter>,
}

/// A moment, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long ago.
    Ago(Duration),
    At(Timestamp),
    /// On this host's clock.
    Local(DateTime),
    /// The last time that this host's clock showed it.
    Today(Time),
}

impl FilterArgs {
    /// The filter that they mean; `netns` are the inode numbers of [`FilterArgs::netns`].
    #[must_use]
    pub fn filter(&self, netns: Vec<u32>) -> Filter {
        Filter {
            upstream: self.upstream.clone(),
            by: self.by.clone(),
            cause: self.cause.clone(),
            impact: self.impact.clone(),
            netns,
            process: self.process.clone(),
            container: self.container.clone(),
            pod: self.pod.clone(),
            gateway: self.gateway.clone(),
            all: self.all,
        }
    }

    /// The span that they mean.
    ///
    /// # Errors
    /// If a moment is none in this zone, or the end does not come after the beginning.
    pub fn span(&self, now: &Zoned) -> Result<Span, SpanError> {
        let moment = |option, when: Option<When>| match when.map(|when| when.moment(now)) {
            Some(None) => Err(SpanError::Never(option)),
            Some(moment) => Ok(moment),
            None => Ok(None),
        };
        let span = Span { since: moment("--since", self.since)?, until: moment("--until", self.until)? };
        match span {
            Span { since: Some(since), until: Some(until) } if since >= until => Err(SpanError::Empty),
            span => Ok(span),
        }
    }
}

/// The words can be read and mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    #[error("{0} means no moment that a clock can show")]
    Never(&'static str),
    #[error("--until is not after --since: nothing lies between them")]
    Empty,
}

// === impl When ===

impl When {
    /// None if it lies outside of what a clock can show.
    fn moment(self, now: &Zoned) -> Option<Timestamp> {
        match self {
            Self::Ago(duration) => now.timestamp().checked_sub(duration).ok(),
            Self::At(timestamp) => Some(timestamp),
            Self::Local(at) => at.to_zoned(now.time_zone().clone()).ok().map(|z| z.timestamp()),
            Self::Today(time) => {
                let on = |date: jiff::civil::Date| {
                    date.to_datetime(time).to_zoned(now.time_zone().clone()).ok().map(|z| z.timestamp())
                };
                let today = on(now.date())?;
                if today <= now.timestamp() {
                    Some(today)
                } else {
                    on(now.date().checked_sub(1.day()).ok()?)
                }
            }
        }
    }
}

impl FromStr for When {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        if let Ok(timestamp) = text.parse() {
            return Ok(Self::At(timestamp));
        }
        let read = if text.contains(['-', 'T']) {
            text.parse().ok().map(Self::Local)
        } else if text.contains(':') {
            text.parse().ok().map(Self::Today)
        } else {
            duration(text).ok().map(Self::Ago)
        };
        read.ok_or(WordError::When)
    }
}

/// This moment on this host's clock.
#[must_use]
pub fn now() -> Zoned {
    Zoned::now().with_time_zone(TimeZone::system())
}

/// An id, or how one begins.
fn container(text: &str) -> Result<String, WordError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(WordError::Container);
    }
    Ok(text.to_owned())
}

/// A name of a pod, or how one begins: `shop/api`, `api`, `shop/`.
fn pod(text: &str) -> Result<String, WordError> {
    let is_part = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    let (namespace, name) = text.split_once('/').unwrap_or(("any", text));
    if text.is_empty() || namespace.is_empty() || !is_part(namespace) || !is_part(name) {
        return Err(WordError::Pod);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> String {
        let now: Zoned = "2026-11-20T12:00:00+01:00[+01:00]".parse().unwrap();
        let when: When = text.parse().unwrap();
        when.moment(&now).unwrap().to_string()
    }

    #[test]
    fn a_moment_can_be_said_in_several_ways() {
        for (text, expected) in [
            ("15m", "2026-11-20T10:45:00Z"),
            ("1h30m", "2026-11-20T09:30:00Z"),
            ("2026-11-20T12:03:07Z", "2026-11-20T12:03:07Z"),
            ("2026-11-20T12:03:07+02:00", "2026-11-20T10:03:07Z"),
            ("2026-11-20T12:03", "2026-11-20T11:03:00Z"),
            ("2026-11-20 12:03:07.5", "2026-11-20T11:03:07.5Z"),
            ("11:58", "2026-11-20T10:58:00Z"),
            ("11:58:30", "2026-11-20T10:58:30Z"),
            // It is noon: this was yesterday.
            ("12:03", "2026-11-19T11:03:00Z"),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["", "yesterday", "15", "-5m", "25:00", "2026-13-01T00:00", "0s"] {
            assert_eq!(text.parse::<When>(), Err(WordError::When), "{text}");
        }
    }

    #[test]
    fn an_end_before_the_beginning_is_refused() {
        let now = now();
        let args = |since: &str, until: &str| FilterArgs {
            since: Some(since.parse().unwrap()),
            until: Some(until.parse().unwrap()),
            ..FilterArgs::default()
        };
        assert!(args("15m", "5m").span(&now).is_ok());
        assert_eq!(args("5m", "15m").span(&now), Err(SpanError::Empty));
        assert_eq!(args("999999999h", "5m").span(&now), Err(SpanError::Never("--since")));
    }
}
