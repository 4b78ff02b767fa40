//! What a report takes from a verdict: borrowed from its line, since there may be fifty thousand.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::enrich::gateways::{Proxy, Registration, State};
use crate::output::VerdictView;
use crate::output::view::ExitView;
use crate::verdict::{By, Cause, Impact};

/// The part of a verdict's line that a report reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Seen<'a> {
    pub time: Timestamp,
    #[serde(borrow)]
    pub scope: Text<'a>,
    #[serde(borrow)]
    pub upstream: Option<Text<'a>>,
    /// What a gateway's configuration calls it.
    #[serde(borrow, default)]
    pub upstream_name: Option<Text<'a>>,
    /// Where it is configured.
    #[serde(borrow, default)]
    pub registration: Option<SeenRegistration<'a>>,
    #[serde(borrow)]
    pub listener: Option<Text<'a>>,
    pub by: By,
    pub cause: Cause,
    pub impact: Impact,
    pub alternatives: Vec<Cause>,
    #[serde(borrow)]
    pub owner: Option<SeenOwner<'a>>,
    #[serde(borrow)]
    pub culprit: Option<SeenCulprit<'a>>,
    #[serde(borrow)]
    pub summary: Text<'a>,
}

/// Borrowed, unless the line had to escape something. (A bare `Cow` within an `Option` is always copied.)
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A [`Registration`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SeenRegistration<'a> {
    gateway: Proxy,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    weight: Option<u32>,
    state: State,
    #[serde(borrow)]
    file: Text<'a>,
    line: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SeenOwner<'a> {
    pub pid: u32,
    #[serde(borrow)]
    pub comm: Text<'a>,
    #[serde(borrow)]
    pub container: Option<Text<'a>>,
    #[serde(default)]
    pub started: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SeenCulprit<'a> {
    pub pid: u32,
    #[serde(borrow)]
    pub comm: Text<'a>,
    pub exit: Option<ExitView>,
    #[serde(borrow)]
    pub killed_by: Option<SeenKiller<'a>>,
    #[serde(default)]
    pub started: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SeenKiller<'a> {
    #[serde(borrow)]
    pub comm: Text<'a>,
}

// === impl Seen ===

impl<'a> Seen<'a> {
    /// Reads it from a verdict's line.
    ///
    /// # Errors
    /// If it is none of this schema.
    pub fn parse(line: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

impl<'a> From<&'a VerdictView> for Seen<'a> {
    fn from(view: &'a VerdictView) -> Self {
        Self {
            time: view.time,
            scope: Text::of(&view.scope),
            upstream: view.upstream.as_deref().map(Text::of),
            upstream_name: view.upstream_name.as_deref().map(Text::of),
            registration: view.registration.as_ref().map(SeenRegistration::of),
            listener: view.listener.as_deref().map(Text::of),
            by: view.by,
            cause: view.cause,
            impact: view.impact,
            alternatives: view.alternatives.clone(),
            owner: view.owner.as_ref().map(|owner| SeenOwner {
                pid: owner.pid,
                comm: Text::of(&owner.comm),
                container: owner.container.as_deref().map(Text::of),
                started: owner.started,
            }),
            culprit: view.culprit.as_ref().map(|culprit| SeenCulprit {
                pid: culprit.pid,
                comm: Text::of(&culprit.comm),
                exit: culprit.exit.clone(),
                killed_by: culprit.killed_by.as_ref().map(|by| SeenKiller { comm: Text::of(&by.comm) }),
                started: culprit.started,
            }),
            summary: Text::of(&view.summary),
        }
    }
}

// === impl SeenRegistration ===

impl<'a> SeenRegistration<'a> {
    fn of(registration: &'a Registration) -> Self {
        let Registration { gateway, name, weight, state, file, line } = registration;
        Self {
            gateway: *gateway,
            name: name.as_deref().map(Text::of),
            weight: *weight,
            state: *state,
            file: Text::of(file),
            line: *line,
        }
    }

    /// None if it is configured not to be used.
    #[must_use]
    pub fn in_use(&self) -> Option<Registration> {
        self.state.is_used().then(|| Registration {
            gateway: self.gateway,
            name: self.name.as_deref().map(str::to_owned),
            weight: self.weight,
            state: self.state,
            file: self.file.to_string(),
            line: self.line,
        })
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    fn of(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
