//! Reads a journal. Total: whatever the bytes are, the result is verdicts and a count of what was passed over, or an
//! error that says where, what, and what to do.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};
use std::path::Path;

use serde::Deserialize;

use super::JournalError;
use super::files::{open_all, shown};
use crate::output::VerdictView;
use crate::output::selection::Selection;
use crate::output::view::{Kind, Omitted, SCHEMA};

/// Longer lines are none of ours.
const LONGEST: u64 = 1 << 20;
/// How every line of ours begins, also one that was cut off.
const BEGINNING: &[u8] = b"{\"schema\":";
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// What a journal does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Lines that cannot be read: cut off by a kill or a full disk, or damaged.
    pub unreadable: u64,
    /// Verdicts that were left out when it was written, as it says itself.
    pub omitted: u64,
}

/// Hands on the verdicts that are wanted, those of the oldest file first.
///
/// # Errors
/// If there is none, it cannot be opened, it is no journal, or a newer version wrote it.
pub fn read(
    path: &Path,
    wanted: &Selection,
    mut take: impl FnMut(VerdictView),
) -> Result<Skipped, JournalError> {
    let parts = open_all(path)?;
    if parts.is_empty() {
        return Err(JournalError::Missing { file: shown(path) });
    }
    let mut reader = Reader::default();
    for part in parts {
        let take = |view: VerdictView| {
            if wanted.holds(&view) {
                take(view);
            }
        };
        reader.read(BufReader::with_capacity(BUFFER, part.file), &part.name, 0, take)?;
    }
    Ok(reader.skipped)
}

/// Hands on the verdicts of the last `lines` lines. No journal at all is an empty one.
pub(super) fn read_last(
    path: &Path,
    lines: u64,
    mut take: impl FnMut(VerdictView),
) -> Result<Skipped, JournalError> {
    let mut parts = Vec::new();
    let mut found = 0;
    for part in open_all(path)?.into_iter().rev() {
        if found >= lines {
            break;
        }
        let failed =
            |source| JournalError::Io { action: "read the journal", file: part.name.clone(), source };
        let here = count_lines(&part.file).map_err(failed)?;
        parts.push((part, (found + here).saturating_sub(lines)));
        found += here;
    }
    let mut reader = Reader::default();
    for (part, passed_over) in parts.into_iter().rev() {
        reader.read(BufReader::with_capacity(BUFFER, part.file), &part.name, passed_over, &mut take)?;
    }
    Ok(reader.skipped)
}

/// And goes back to the beginning.
fn count_lines(mut file: &File) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut lines = 0;
    let mut ended = true;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        lines += read.iter().filter(|byte| **byte == b'\n').count() as u64;
        ended = read.last() == Some(&b'\n');
    }
    file.rewind()?;
    Ok(lines + u64::from(!ended))
}

/// Takes the lines of one file after the other.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub skipped: Skipped,
    buffer: Vec<u8>,
}

/// What a line is.
enum Parsed {
    Verdict(Box<VerdictView>),
    Omitted(u64),
    /// Another kind, such as the `ready` of a stream that was kept in a file.
    Other,
    Newer(u64),
    Unreadable,
}

// === impl Reader ===

impl Reader {
    /// Reads a file to its end, and hands on the verdicts after the first `passed_over` lines. What is appended
    /// meanwhile is read too.
    pub fn read(
        &mut self,
        mut input: impl BufRead,
        name: &str,
        passed_over: u64,
        mut take: impl FnMut(VerdictView),
    ) -> Result<(), JournalError> {
        let mut line = 0;
        let mut begun = false;
        loop {
            let more = self.read_line(&mut input).map_err(|source| JournalError::Io {
                action: "read the journal",
                file: name.to_owned(),
                source,
            })?;
            if !more {
                return Ok(());
            }
            line += 1;
            let text = self.buffer.trim_ascii();
            if text.is_empty() || (begun && line <= passed_over) {
                continue;
            }
            let parsed = parse(text);
            if !std::mem::replace(&mut begun, true)
                && matches!(parsed, Parsed::Unreadable)
                && !begins_like_ours(text)
            {
                return Err(JournalError::NoJournal { file: name.to_owned(), line });
            }
            match parsed {
                Parsed::Newer(found) => {
                    return Err(JournalError::Newer { file: name.to_owned(), line, found });
                }
                _ if line <= passed_over => {}
                Parsed::Verdict(view) => take(*view),
                Parsed::Omitted(count) => self.skipped.omitted = self.skipped.omitted.saturating_add(count),
                Parsed::Other => {}
                Parsed::Unreadable => self.skipped.unreadable += 1,
            }
        }
    }

    /// False at the end. Of a line that is too long, only the beginning is kept.
    fn read_line(&mut self, input: &mut impl BufRead) -> io::Result<bool> {
        self.buffer.clear();
        let read = input.by_ref().take(LONGEST).read_until(b'\n', &mut self.buffer)?;
        if read as u64 == LONGEST && self.buffer.last() != Some(&b'\n') {
            input.skip_until(b'\n')?;
        }
        Ok(read > 0)
    }
}

fn parse(line: &[u8]) -> Parsed {
    match serde_json::from_slice::<VerdictView>(line) {
        Ok(view) if view.schema > SCHEMA => Parsed::Newer(view.schema.into()),
        Ok(view) if view.kind == Kind::Verdict => Parsed::Verdict(Box::new(view)),
        Ok(_) => Parsed::Unreadable,
        Err(_) => parse_other(line),
    }
}

/// What is no verdict, or one that this version cannot read.
fn parse_other(line: &[u8]) -> Parsed {
    #[derive(Deserialize)]
    struct Head {
        schema: u64,
        kind: serde_json::Value,
    }
    let Ok(Head { schema, kind }) = serde_json::from_slice(line) else { return Parsed::Unreadable };
    if schema > SCHEMA.into() {
        return Parsed::Newer(schema);
    }
    match Kind::deserialize(kind) {
        Ok(Kind::Omitted) => match serde_json::from_slice::<Omitted>(line) {
            Ok(omitted) => Parsed::Omitted(omitted.count),
            Err(_) => Parsed::Unreadable,
        },
        Ok(Kind::Verdict) | Err(_) => Parsed::Unreadable,
        Ok(_) => Parsed::Other,
    }
}

/// Whether it is the beginning of a line of ours, whole or not; a lost power supply may leave zeros before it.
fn begins_like_ours(line: &[u8]) -> bool {
    let zeros = line.iter().take_while(|byte| **byte == 0).count();
    let line = line.get(zeros..).unwrap_or_default();
    let common = line.len().min(BEGINNING.len());
    line.get(..common) == BEGINNING.get(..common)
}

// === impl Skipped ===

impl Skipped {
    /// Whether it says everything.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unreadable, omitted } = *self;
        if unreadable > 0 {
            let lines = if unreadable == 1 { "line" } else { "lines" };
            write!(f, "{unreadable} {lines} passed over that cannot be read (cut off or damaged)")?;
        }
        if unreadable > 0 && omitted > 0 {
            f.write_str("; ")?;
        }
        if omitted > 0 {
            let verdicts = if omitted == 1 { "verdict" } else { "verdicts" };
            write!(f, "{omitted} {verdicts} missing that the disk had no room or was too slow for")?;
        }
        Ok(())
    }
}
