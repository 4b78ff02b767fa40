//! Verdicts for the tests of this folder.

use jiff::Timestamp;

use crate::output::{VerdictView, fixture};

/// So many seconds after an even minute.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Half a minute after it.
pub fn now() -> Timestamp {
    at(30)
}

/// A request lost to an OOM kill.
pub fn lost(upstream: &str, second: i64) -> VerdictView {
    VerdictView {
        time: at(second),
        upstream: Some(upstream.to_owned()),
        ..fixture::view(&fixture::oom_killed())
    }
}
