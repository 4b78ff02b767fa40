//! The figures of a connection.

use serde::{Deserialize, Serialize};

use super::moment::to_the_microsecond;
use crate::verdict::Verdict;

/// Figures of the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionView {
    pub cookie: u64,
    pub age_ms: Option<f64>,
    pub bytes_sent: Option<u64>,
    pub bytes_received: u64,
    pub since_request_ms: Option<f64>,
    pub reused: Option<bool>,
    pub retransmits: u32,
    pub srtt_us: Option<u32>,
}

// === impl ConnectionView ===

impl ConnectionView {
    pub(super) fn new(verdict: &Verdict) -> Self {
        let connection = &verdict.connection;
        Self {
            cookie: connection.cookie,
            age_ms: connection.age_ms.map(to_the_microsecond),
            bytes_sent: connection.bytes_sent,
            bytes_received: connection.bytes_received,
            since_request_ms: connection.since_request_ms.map(to_the_microsecond),
            reused: connection.reused,
            retransmits: connection.retransmits,
            srtt_us: connection.srtt_us,
        }
    }
}
