//! What somebody wants to see of the verdicts: which ones, and of which time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::filter::Filter;

use super::VerdictView;

/// Which verdicts, of which time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub filter: Filter,
    pub span: Span,
}

/// From a moment on, and up to one; without either end, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Span {
    /// Belongs to it.
    pub since: Option<Timestamp>,
    /// Does not.
    pub until: Option<Timestamp>,
}

// === impl Selection, Span ===

impl Selection {
    /// Whether a verdict that was news is wanted.
    #[must_use]
    pub fn holds(&self, view: &VerdictView) -> bool {
        self.span.holds(view.time) && self.filter.matches(view)
    }
}

impl Span {
    #[must_use]
    pub fn holds(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}
