//! The files of a journal: FILE, FILE.1, FILE.2, … from the newest to the oldest.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::JournalError;
use crate::output::text::printable;

/// Files of a journal at most: FILE.1 to FILE.99 are taken for its older ones.
pub const MAX_FILES: u32 = 100;
/// Bytes that a file must be allowed to have, so that what is written at once fits into one.
pub const SMALLEST: u64 = 64 << 10;

/// Where a journal lies, and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// Bytes of each file, at least [`SMALLEST`].
    pub size: u64,
    /// How many, the one that is written included: 2 to [`MAX_FILES`].
    pub files: u32,
}

/// One of them, open for reading.
#[derive(Debug)]
pub struct Part {
    /// For messages.
    pub name: String,
    pub file: File,
}

/// The path of FILE.`number`.
pub fn older(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// As a message shows it.
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// Opens those that exist, oldest first. An agent may write and rotate them meanwhile.
pub fn open_all(path: &Path) -> Result<Vec<Part>, JournalError> {
    let mut parts = Vec::new();
    let mut seen = Vec::new();
    // The newest first: a file that is renamed meanwhile is met twice and not missed.
    for path in std::iter::once(path.to_owned()).chain((1..MAX_FILES).map(|number| older(path, number))) {
        let name = shown(&path);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            // A rotation that was interrupted leaves a gap.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(JournalError::Io { action: "read the journal", file: name, source }),
        };
        if !metadata.is_file() {
            return Err(JournalError::NotAFile { file: name });
        }
        let identity = (metadata.dev(), metadata.ino());
        if !seen.contains(&identity) {
            seen.push(identity);
            parts.push(Part { name, file });
        }
    }
    parts.reverse();
    Ok(parts)
}

// === impl Place ===

impl Place {
    /// The renames, in their order, that make room for a new FILE. Wherever they are interrupted, nothing is lost
    /// but the oldest file, and the next ones go on from there.
    pub fn moves(&self) -> Vec<(PathBuf, PathBuf)> {
        let last = self.files.saturating_sub(1).max(1);
        // An interrupted rotation has left a gap: it takes what comes before it.
        let exists = |number: u32| older(&self.path, number).symlink_metadata().is_ok();
        let free = (1..last).find(|number| !exists(*number)).unwrap_or(last);
        let shifted = (1..free).rev().map(|n| (older(&self.path, n), older(&self.path, n + 1)));
        shifted.chain(std::iter::once((self.path.clone(), older(&self.path, 1)))).collect()
    }

    /// What lies beyond the number of files, since there were more of them once.
    pub fn beyond(&self) -> impl Iterator<Item = PathBuf> {
        (self.files..MAX_FILES).map(|number| older(&self.path, number))
    }
}
