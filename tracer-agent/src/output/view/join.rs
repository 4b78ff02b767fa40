//! What joins the two ends of one connection that two hosts tell of.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::event::Target;
use crate::verdict::Verdict;

/// Both are the same on both hosts, the key but for a translation of addresses between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinView {
    /// Both addresses with their ports, the lower first: `10.0.1.2:43210-10.0.3.7:9000`. None for what is no TCP
    /// connection, or has no address of its own yet.
    pub key: Option<String>,
    /// See [`crate::event::SocketEnd::end_seq`].
    pub end_seq: Option<u32>,
}

impl JoinView {
    pub(super) fn new(verdict: &Verdict) -> Self {
        let is_tcp = matches!(verdict.upstream, Some(Target::Tcp(_)) | None);
        let ends = verdict.local.zip(verdict.peer).filter(|_| is_tcp);
        Self { key: ends.map(|(local, peer)| key(local, peer)), end_seq: verdict.connection.end_seq }
    }
}

fn key(one: SocketAddr, other: SocketAddr) -> String {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    format!("{low}-{high}")
}
