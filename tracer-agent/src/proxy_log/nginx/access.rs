//! nginx's access log: the attempts at upstreams that a request took, and how they ended.
//!
//! Read are lines of a format that is given, JSON and `name=value` with the names of nginx's variables, and the
//! combined format, which does not say the upstream. `access_log_parser` and its like know the combined format
//! alone.

use std::borrow::Cow;
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::LogFormat;
use crate::proxy_log::{Class, Entry, Failure, Upstream, Window};

/// The `log_format` line with all that is used here.
pub const ADVICE: &str = "the access log does not say the upstream: add to nginx.conf `log_format rstrace \
    'msec=$msec status=$status upstream_addr=\"$upstream_addr\" upstream_status=\"$upstream_status\" \
    upstream_response_time=\"$upstream_response_time\" upstream_header_time=\"$upstream_header_time\" \
    request=\"$request\"';` and `access_log /var/log/nginx/rstrace.log rstrace;`";

/// What may come after it is of no use here.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $rest";
/// How exact times in milliseconds are: nginx looks at the clock once for each round of its loop.
const ABOUT: SignedDuration = SignedDuration::from_millis(20);

/// What one line says.
#[must_use]
pub fn access_line(number: u64, line: &str, format: Option<&LogFormat>) -> Entry {
    match Fields::read(line, format) {
        Some(fields) => fields.entry(number).unwrap_or(Entry::Unknown),
        None => Entry::Unknown,
    }
}

/// Names of variables, and their values.
struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    fn read(line: &'a str, format: Option<&'a LogFormat>) -> Option<Self> {
        let borrowed = |fields: Vec<(&'a str, &'a str)>| {
            Self(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
        };
        if let Some(format) = format {
            return format.fields(line).map(borrowed);
        }
        let named = json(line).map(Self).or_else(|| Some(borrowed(pairs(line))));
        named
            .filter(|fields| fields.get("status").is_some() && fields.time().is_some())
            .or_else(|| combined()?.fields(line).map(borrowed))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// When the request ended, within how long.
    fn time(&self) -> Option<(Timestamp, SignedDuration)> {
        let second = SignedDuration::from_secs(1);
        if let Some(time) = self.get("msec").and_then(seconds) {
            let time = Timestamp::UNIX_EPOCH.checked_add(time).ok()?;
            return Some((time.checked_sub(ABOUT).ok()?, ABOUT * 2));
        }
        if let Some(time) = self.get("time_iso8601") {
            return time.parse().ok().map(|time| (time, second));
        }
        let time = Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", self.get("time_local")?).ok()?;
        Some((time, second))
    }

    fn entry(&self, number: u64) -> Option<Entry> {
        let (from, length) = self.time()?;
        let status: u16 = self.get("status")?.parse().ok()?;
        let window = Window::new(from, length)?;
        let request = self.get("request").unwrap_or_default();
        let Some(addresses) = self.get("upstream_addr") else {
            // Only the outcome is known.
            let class = of_status(status)
                .map(|class| Failure::new(number, window, class, &format!("{status} {request}")));
            return Some(class.map_or(Entry::Other, |failure| Entry::Failures(vec![failure])));
        };
        let addresses = list(addresses);
        let statuses = self.get("upstream_status").map(list).unwrap_or_default();
        let times: Option<Vec<_>> = self
            .get("upstream_response_time")
            .and_then(|times| list(times).into_iter().map(seconds).collect());
        let headers = self.get("upstream_header_time").map(list).unwrap_or_default();
        let attempts = addresses.iter().enumerate();
        let failures = attempts.filter_map(|(index, address)| {
            let own = statuses.get(index).and_then(|text| text.parse().ok());
            let last = index + 1 == addresses.len();
            // A client that left leaves an attempt without a status.
            let class = of_status(own.or(last.then_some(status))?)?;
            let upstream = Upstream::parse(address);
            let class = match (&upstream, headers.get(index)) {
                (None, _) => Class::NoUpstream,
                (Some(Upstream::Named(_)), _) => Class::NoLiveUpstreams,
                (Some(Upstream::At(_)), Some(time)) if seconds(time).is_some() => Class::AnsweredItself,
                (Some(Upstream::At(_)), _) => class,
            };
            let later = times.as_ref().and_then(|times| times.get(index + 1..));
            let later = later
                .map(|later| later.iter().fold(SignedDuration::ZERO, |sum, one| sum.saturating_add(*one)));
            let words =
                format!("{status} {request} (upstream status {})", statuses.get(index).unwrap_or(&"-"));
            Some(Failure::new(number, self.window(window, later)?, class, &words).of(upstream))
        });
        let failures: Vec<_> = failures.collect();
        Some(if failures.is_empty() { Entry::Other } else { Entry::Failures(failures) })
    }

    /// When an attempt ended: as much before the request as the later attempts took. If that is not known, at
    /// some time within the request.
    fn window(&self, end: Window, later: Option<SignedDuration>) -> Option<Window> {
        let back = |time: Timestamp, by: SignedDuration| time.checked_sub(by).ok();
        match (later, self.get("request_time").and_then(seconds)) {
            (Some(later), _) => Some(Window { from: back(end.from, later)?, until: back(end.until, later)? }),
            (None, Some(whole)) => Some(Window { from: back(end.from, whole)?, until: end.until }),
            (None, None) => Some(end),
        }
    }
}

/// What an access log can say of an upstream that failed.
fn of_status(status: u16) -> Option<Class> {
    match status {
        499 => Some(Class::ClientGone),
        502 => Some(Class::BadGateway),
        504 => Some(Class::GatewayTimeout),
        _ => None,
    }
}

/// Attempts are separated by commas, groups of servers by colons.
fn list(text: &str) -> Vec<&str> {
    text.split(", ").flat_map(|part| part.split(" : ")).map(str::trim).collect()
}

/// `1.234` as a time of at most some centuries.
fn seconds(text: &str) -> Option<SignedDuration> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..1e10).contains(&seconds).then(|| SignedDuration::from_millis((seconds * 1000.0).round() as i64))
}

fn combined() -> Option<&'static LogFormat> {
    static COMBINED_FORMAT: OnceLock<Option<LogFormat>> = OnceLock::new();
    COMBINED_FORMAT.get_or_init(|| LogFormat::read(COMBINED).ok()).as_ref()
}

/// One JSON object, whatever stands before it.
fn json(line: &str) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(&line[line.find('{')?..]).ok()?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(object.into_iter().map(|(name, value)| (name.into(), text(value).into())).collect())
}

/// `name=value` and `name="some value"`, whatever stands between them.
fn pairs(line: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('=') {
        let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or(before);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => unquoted(after),
        };
        found.push((name, value));
        rest = next;
    }
    found
}

/// Up to a space, but for the one after a comma of a list.
fn unquoted(text: &str) -> (&str, &str) {
    let end = text.match_indices(' ').map(|(at, _)| at).find(|at| !text[..*at].ends_with(','));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
