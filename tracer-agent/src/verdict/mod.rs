//! What is said of one ended connection: who ended it, why, and whether a request was lost.
//!
//! Pure: [`judge`] takes a [`Story`] (the ended socket and all that the tables know around it) and returns a
//! [`Verdict`]. One ordered list of small rules, the first that matches wins, the last is `unknown`.

mod cause;
#[cfg(test)]
mod causes_doc;
mod causes_page;
mod connect_error;
mod fate;
mod finding;
mod rules;
mod signal;
mod story;
#[cfg(test)]
mod tests;
mod unix;
mod words;

use std::net::SocketAddr;

pub use cause::{By, Cause, Confidence, How, Impact};
pub use causes_page::Section;
pub use rules::{RULES, Rule, judge};
pub use signal::signal_name;
pub use story::Story;

use crate::event::{Exit, Process, Role, Target};
use crate::table::{Ended, Tables};

/// The verdict on what has ended. None: nothing to say, or the line is the other end's.
#[must_use]
pub fn of(tables: &Tables, ended: &Ended) -> Option<Verdict> {
    match ended {
        Ended::Socket(end) => Story::gather(tables, end).and_then(|story| judge(&story)),
        Ended::Lookup(lookup) => rules::dns::judge(tables, lookup),
        Ended::Connect(error) => connect_error::judge(tables, error),
        Ended::Unix(end) => unix::judge(tables, end),
    }
}

/// One verdict; `output` spells it as JSON, as a line and as metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// `CLOCK_MONOTONIC` nanoseconds of the kernel event.
    pub ktime_ns: u64,
    pub role: Role,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// What was dialled or looked for (role client).
    pub upstream: Option<Target>,
    /// The address that accepted (role server).
    pub listener: Option<SocketAddr>,
    /// The socket's own address and its peer's; None where it has none (Unix sockets).
    pub local: Option<SocketAddr>,
    pub peer: Option<SocketAddr>,
    pub by: By,
    pub cause: Cause,
    pub impact: Impact,
    pub confidence: Confidence,
    /// Causes that the evidence cannot exclude.
    pub alternatives: Vec<Cause>,
    pub how: How,
    /// Number in the running kernel's `enum sk_rst_reason`.
    pub rst_reason: Option<u32>,
    /// The process of this socket.
    pub owner: Option<Process>,
    /// The process whose action or end is the cause.
    pub culprit: Option<Culprit>,
    pub connection: Connection,
    /// The facts that it stands on, one short sentence each.
    pub evidence: Vec<String>,
    /// One sentence that an operator can act on.
    pub summary: String,
    /// Whether the owner is a gateway (accepts connections, or was named as one).
    pub gateway: bool,
    /// The same was told not long ago: counted, and no news.
    pub repeated: bool,
    /// Ports on which the owner, or its parent, listens.
    pub owner_listens: Vec<u16>,
    /// Of a connect that failed: what the kernel counts others like it under (`wire::AlikeKey`).
    pub shape: Option<u32>,
    /// Of an address that this host refused: when its last listener ceased, `CLOCK_MONOTONIC` nanoseconds.
    pub listened_until_ns: Option<u64>,
}

/// The process whose action or end is the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    pub process: Process,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
    /// Another process that sent the signal that ended it.
    pub killed_by: Option<Process>,
}

/// Figures of the connection; None is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Connection {
    pub cookie: u64,
    pub age_ms: Option<f64>,
    pub bytes_sent: Option<u64>,
    pub bytes_received: u64,
    pub since_request_ms: Option<f64>,
    /// It had carried an answered exchange before.
    pub reused: Option<bool>,
    pub retransmits: u32,
    pub srtt_us: Option<u32>,
    /// See [`crate::event::SocketEnd::end_seq`].
    pub end_seq: Option<u32>,
}

impl Verdict {
    /// Shown without `--all`: what harmed somebody, and what may have, if the peer ended it. What a plain
    /// client did itself is no news (a curl that gives up is no gateway timeout).
    #[must_use]
    pub fn is_news(&self) -> bool {
        let harmed = match self.impact {
            Impact::None => false,
            Impact::Unknown => self.by != By::Gateway,
            _ => true,
        };
        harmed
            && !self.repeated
            && (self.gateway || self.role == Role::Server || !matches!(self.by, By::Gateway | By::Client))
    }
}
