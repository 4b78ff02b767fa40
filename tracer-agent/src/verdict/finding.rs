//! What a rule has found: who and why, without words.

use super::{By, Cause, Confidence, Culprit, Impact};

/// What may stand behind the end of a stream (a FIN) whose other process is not seen.
pub const BEHIND_AN_END: &[Cause] = &[
    Cause::ProcessExited,
    Cause::ProcessCrashed,
    Cause::ProcessKilled,
    Cause::OomKilled,
    Cause::WorkerTimeout,
    Cause::ServiceStopped,
    Cause::UpstreamTimeout,
];
/// What may stand behind a reset whose other process is not seen, if it was that process.
pub const BEHIND_A_RESET: &[Cause] = &[
    Cause::ClosedUnreadData,
    Cause::ProcessCrashed,
    Cause::ProcessKilled,
    Cause::OomKilled,
    Cause::WorkerTimeout,
    Cause::ServiceStopped,
];

/// What a rule has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub by: By,
    pub cause: Cause,
    pub impact: Impact,
    pub confidence: Confidence,
    pub alternatives: Vec<Cause>,
    pub culprit: Option<Culprit>,
}

impl Finding {
    /// Proven, without a culprit.
    pub fn new(by: By, cause: Cause, impact: Impact) -> Self {
        Self { by, cause, impact, confidence: Confidence::Proven, alternatives: vec![], culprit: None }
    }

    /// Deduced; these causes remain possible.
    pub fn inferred(mut self, alternatives: &[Cause]) -> Self {
        self.confidence = Confidence::Inferred;
        self.alternatives = alternatives.to_vec();
        self
    }

    pub fn culprit(mut self, culprit: Option<Culprit>) -> Self {
        self.culprit = culprit;
        self
    }
}
