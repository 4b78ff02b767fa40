//! Everything to the right of a verdict: its spelling as JSON and as a line, the metrics, the live stream, the
//! HTTP endpoints and the unix socket.
//!
//! Sits at the right edge of the data path and knows nothing of the kernel: what it needs from there comes in
//! through the traits [`Names`] and [`metrics::Source`]. It judges nothing.

pub mod audit;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
pub mod history;
pub mod http;
pub mod hub;
pub mod human;
pub mod journal;
pub mod metrics;
mod names;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod page;
pub mod printer;
pub mod report;
pub mod selection;
pub mod socket;
pub mod sparkline;
mod stale;
pub mod state;
pub mod systemd;
pub mod text;
pub mod view;
pub mod web;
pub mod write;

use std::sync::Arc;

pub use names::UnknownName;
pub use view::{Line, Names, Omitted, Origin, Ready, VerdictView};

use crate::verdict::Verdict;

/// What a verdict is delivered to. A sink never blocks and never fails: it counts what it had to drop.
pub trait Sink {
    /// Both forms of one verdict: what the rules said, and how it is spelled to the outside.
    fn deliver(&mut self, verdict: &Verdict, view: &Arc<VerdictView>);
}
