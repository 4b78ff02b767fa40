//! One failure of an upstream, as a proxy logged it.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};

use super::Class;
use crate::event::Target;

/// Longest excerpt of a line that is shown, in characters.
const MOST_SAID: usize = 300;

/// What one line of a log is.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// An upstream failed, more than once if the proxy tried several.
    Failures(Vec<Failure>),
    /// A line of this log about something else.
    Other,
    /// No line of such a log.
    Unknown,
}

/// One upstream connection that failed, or that could not even be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Of the log, from 1 on.
    pub line: u64,
    pub window: Window,
    pub upstream: Option<Upstream>,
    /// The gateway's own address on that connection.
    pub local: Option<SocketAddr>,
    pub class: Class,
    /// The proxy's own words.
    pub said: String,
}

/// When it happened, as exactly as the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Belongs to it.
    pub from: Timestamp,
    /// Does not.
    pub until: Timestamp,
}

/// What a proxy calls an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    At(Target),
    /// A name from its configuration, whose addresses the log does not say.
    Named(String),
}

// === impl Failure, Window, Upstream ===

impl Failure {
    #[must_use]
    pub fn new(line: u64, window: Window, class: Class, said: &str) -> Self {
        Self { line, window, upstream: None, local: None, class, said: shortened(said) }
    }

    #[must_use]
    pub fn of(mut self, upstream: Option<Upstream>) -> Self {
        self.upstream = upstream;
        self
    }

    /// Where the upstream is, if the log says it.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        match &self.upstream {
            Some(Upstream::At(target)) => Some(target),
            Some(Upstream::Named(_)) | None => None,
        }
    }
}

impl Window {
    /// From a moment on, for so long; None if a clock cannot show that.
    #[must_use]
    pub fn new(from: Timestamp, length: SignedDuration) -> Option<Self> {
        Some(Self { from, until: from.checked_add(length).ok()? })
    }

    /// How far a moment lies outside of it.
    #[must_use]
    pub fn distance(&self, time: Timestamp) -> SignedDuration {
        let before = self.from.duration_since(time);
        let after = time.duration_since(self.until);
        before.max(after).max(SignedDuration::ZERO)
    }
}

impl Upstream {
    /// As proxies write it: an address with its port, `unix:/path`, or a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse::<Target>() {
            Ok(target @ (Target::Tcp(_) | Target::Unix(_))) => Some(Self::At(canonical(target))),
            _ if text.is_empty() || text == "-" => None,
            _ => Some(Self::Named(shortened(text))),
        }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(target) => target.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// An IPv4 address in an IPv6 socket is the same upstream.
pub(super) fn canonical(target: Target) -> Target {
    match target {
        Target::Tcp(address) => Target::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port())),
        other => other,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_SAID) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
