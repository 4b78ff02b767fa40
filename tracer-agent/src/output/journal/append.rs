//! Puts whole lines at the end of the journal, and rotates it.
//!
//! Each append looks at the file anew: somebody may have removed or shortened it to make room, and a kill or a full
//! disk may have left half a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Access, FlockOperation, OFlags};
use rustix::io::Errno;

use super::JournalError;
use super::files::{Place, shown};

/// The writing end on disk.
#[derive(Debug)]
pub struct Appender {
    place: Place,
    /// None after a rotation that could not open the next one.
    file: Option<File>,
}

/// Not everything could be appended.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Short {
    /// Bytes that were, up to the end of a line.
    pub whole: usize,
    pub error: io::Error,
}

// === impl Appender ===

impl Appender {
    /// Opens FILE, which nobody else may write, and removes what lies beyond the number of files.
    ///
    /// # Errors
    /// If another agent has it, or its folder does not let this process rotate.
    pub fn open(place: Place) -> Result<Self, JournalError> {
        let name = shown(&place.path);
        let failed = |action| {
            let file = name.clone();
            move |source| JournalError::Io { action, file, source }
        };
        let file = open(&place.path).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::WOULDBLOCK) => JournalError::InUse { file: name.clone() },
            Some(Errno::LOOP | Errno::ISDIR) => JournalError::NotAFile { file: name.clone() },
            _ => failed("write the journal")(error),
        })?;
        if !file.metadata().map_err(failed("look at the journal"))?.is_file() {
            return Err(JournalError::NotAFile { file: name });
        }
        // Better now than in the middle of the night, when the file is full.
        rustix::fs::access(folder(&place.path), Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| failed("rotate the journal in the folder of")(error.into()))?;
        for path in place.beyond() {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove what is beyond --journal-files of the journal")(error));
                }
                _ => {}
            }
        }
        Ok(Self { place, file: Some(file) })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Appends lines, each with its line feed.
    ///
    /// # Errors
    /// If there was no room for all of them. The lines up to [`Short::whole`] are there; of the next one nothing is,
    /// or a half that the next append ends.
    pub fn append(&mut self, lines: &str) -> Result<(), Short> {
        let (mut file, length) = self.room_for(lines.len()).map_err(|error| Short { whole: 0, error })?;
        let (written, error) = write(&mut file, lines.as_bytes());
        let done = match error {
            None => Ok(()),
            Some(error) => {
                let part = lines.as_bytes().get(..written).unwrap_or_default();
                let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                // If the half cannot be taken back, the next append ends its line, and readers pass over it.
                let _ = file.set_len(length + whole as u64);
                Err(Short { whole, error })
            }
        };
        self.file = Some(file);
        done
    }

    /// FILE with room for so many bytes, at the beginning of a line, and its length.
    fn room_for(&mut self, bytes: usize) -> io::Result<(File, u64)> {
        let wanted = bytes as u64 + 1;
        if wanted > self.place.size {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a line is longer than a file may be"));
        }
        let mut file = match self.file.take() {
            Some(file) if file.metadata()?.nlink() > 0 => file,
            // Removed, perhaps to make room, which it does only once nobody holds it.
            _ => open(&self.place.path)?,
        };
        let mut length = file.metadata()?.len();
        if length > 0 && length + wanted > self.place.size {
            drop(file);
            for (from, to) in self.place.moves() {
                std::fs::rename(from, to)?;
            }
            file = open(&self.place.path)?;
            length = file.metadata()?.len();
        }
        if ends_within_a_line(&file, length)? {
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok((file, length))
    }
}

/// Opens it for this process alone.
fn open(path: &Path) -> io::Result<File> {
    // Read as well, for its last byte. Whoever can name a file for the journal must not make it another one's.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn ends_within_a_line(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// As `write_all`, but says how far it came.
fn write(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}
