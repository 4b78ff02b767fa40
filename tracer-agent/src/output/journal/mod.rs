//! The verdicts that were news, on disk: the same lines that a reader of the stream gets, so that a restart keeps the
//! past and a report can be made without the agent.
//!
//! FILE is the one that is written, FILE.1 the one before it, up to FILE.N-1; none grows beyond its size. Nothing is
//! ever waited for: what the queue or the disk has no room for is left out and counted, and a line of kind `omitted`
//! says how much, where it is missing.

mod append;
mod files;
mod read;
mod write;

use std::io;

pub use append::Appender;
pub use files::{MAX_FILES, Place, SMALLEST};
pub use read::{Skipped, read};
pub use write::{Journal, Opened, Opening, Written};

use super::view::SCHEMA;

/// Why there is no journal, or why it cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("there is no journal {file}: name the FILE that `rstrace agent --journal FILE` writes")]
    Missing { file: String },
    #[error("cannot {action} {file}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
    #[error("{file} is no regular file: choose another one for the journal")]
    NotAFile { file: String },
    #[error("another agent writes the journal {file}: choose another --journal")]
    InUse { file: String },
    #[error(
        "{file}: line {line}: this is no journal: name the FILE that `rstrace agent --journal FILE` writes"
    )]
    NoJournal { file: String, line: u64 },
    #[error(
        "{file}: line {line}: written by a newer rstrace (schema {found}, and this one reads {SCHEMA}): use that one, \
         or move the file away"
    )]
    Newer { file: String, line: u64, found: u64 },
}

// === impl JournalError ===

impl JournalError {
    /// Whether it is for lack of rights.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

#[cfg(test)]
mod tests;
