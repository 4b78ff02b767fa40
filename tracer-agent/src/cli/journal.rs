//! Where and how much of the past the agent keeps on disk.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;

use super::WordError;
use crate::output::journal::{MAX_FILES, Place, SMALLEST};

#[derive(Debug, Args)]
pub struct JournalArgs {
    /// Also keep the verdicts in this file, one JSON object a line, for the next start and for reports
    #[arg(long, value_name = "FILE", env = "RSTRACE_JOURNAL")]
    journal: Option<PathBuf>,

    /// Begin a new file at this size, and call the old one FILE.1
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    journal_size: u64,

    /// Keep so many files, the newest included; older ones are removed
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_FILES)))]
    journal_files: u32,
}

// === impl JournalArgs ===

impl JournalArgs {
    /// None if no journal is wanted.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let path = self.journal.clone()?;
        Some(Place { path, size: self.journal_size, files: self.journal_files })
    }
}

fn size(text: &str) -> Result<u64, WordError> {
    match text.parse::<ByteSize>() {
        Ok(size) if size.as_u64() >= SMALLEST => Ok(size.as_u64()),
        _ => Err(WordError::Size),
    }
}
