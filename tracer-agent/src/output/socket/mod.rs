//! The unix socket of the agent: what is said on it, and by whom.
//!
//! The client sends one line, `{"schema":1,"want":"watch","filter":{…},"since":null,"with":[…]}`, and reads lines of JSON until
//! it has enough: `ready` first, then verdicts, or a single `error`. With `since` the verdicts begin with those that the
//! agent has kept from then on. With `"want":"history"` (and `since`, `until`) only those come, and a line of kind
//! `history` at their end. With `"want":"audit"` or `"want":"state"` one line comes. Whoever may open the socket may see everything: it
//! belongs to its owner alone (0600).

mod client;
#[cfg(feature = "top")]
mod gulps;
mod place;
mod server;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

pub use client::{Client, ClientError, Told};
#[cfg(feature = "top")]
pub use gulps::Gulps;
pub use place::BindError;
pub use server::Server;

use super::filter::Filter;
use super::selection::{Selection, Span};
use super::view::SCHEMA;

/// Where an agent listens unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/rstrace/rstrace.sock";

/// Longest request line. A filter with a thousand upstreams fits.
const MAX_REQUEST: u64 = 64 * 1024;
/// Longest line that a client reads; evidence and names are short.
const MAX_LINE: u64 = 1024 * 1024;
const TOO_LONG: &str = "a line of more than 1 MiB";

/// The one line that a client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    schema: u32,
    want: Want,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    since: Option<Timestamp>,
    #[serde(default)]
    until: Option<Timestamp>,
    /// Optional groups of hooks that the client counts on.
    #[serde(default)]
    with: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Want {
    Watch,
    History,
    Audit,
    State,
}

impl Request {
    fn new(want: Want, selection: Selection, with: Vec<String>) -> Self {
        let Selection { filter, span: Span { since, until } } = selection;
        Self { schema: SCHEMA, want, filter, since, until, with }
    }

    fn selection(&self) -> Selection {
        Selection { filter: self.filter.clone(), span: Span { since: self.since, until: self.until } }
    }
}

/// A line, as far as it came.
enum Read {
    Line(Vec<u8>),
    /// Ended in the middle of a line, or before one.
    Ended,
    TooLong,
}

async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R, limit: u64) -> std::io::Result<Read> {
    let mut line = Vec::new();
    let read = reader.take(limit).read_until(b'\n', &mut line).await?;
    Ok(if line.pop_if(|b| *b == b'\n').is_some() {
        Read::Line(line)
    } else if read as u64 == limit {
        Read::TooLong
    } else {
        Read::Ended
    })
}

#[cfg(test)]
mod tests;
