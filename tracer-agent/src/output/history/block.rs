//! Some hundred lines in one compressed piece.

use jiff::Timestamp;

use crate::output::VerdictView;
use crate::output::selection::{Selection, Span};

/// Verdicts of a block: enough to compress well, few enough to be read between two events of the ring.
const VERDICTS: usize = 256;

/// Lines that are complete and compressed.
#[derive(Debug)]
pub struct Block {
    text: Text,
    pub verdicts: usize,
    /// The earliest and the latest time in it: verdicts are not told in the order of their times.
    pub first: Timestamp,
    pub last: Timestamp,
}

#[derive(Debug)]
enum Text {
    Plain(String),
    /// With its length before it.
    Compressed(Box<[u8]>),
}

/// A block cannot be read, though this process wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of {verdicts} verdicts in memory cannot be read: {reason}")]
pub struct Corrupt {
    verdicts: usize,
    reason: String,
}

/// The block that is being filled.
#[derive(Debug, Default)]
pub struct Open {
    text: String,
    verdicts: usize,
    times: Option<(Timestamp, Timestamp)>,
}

// === impl Open ===

impl Open {
    pub fn push(&mut self, view: &VerdictView) {
        self.text.push_str(&view.to_json());
        self.text.push('\n');
        self.verdicts += 1;
        let (first, last) = self.times.unwrap_or((view.time, view.time));
        self.times = Some((first.min(view.time), last.max(view.time)));
    }

    pub fn is_full(&self) -> bool {
        self.verdicts >= VERDICTS
    }

    pub fn verdicts(&self) -> usize {
        self.verdicts
    }

    pub fn first(&self) -> Option<Timestamp> {
        self.times.map(|(first, _)| first)
    }

    pub fn close(self) -> Block {
        let text = lz4_flex::compress_prepend_size(self.text.as_bytes());
        self.block(Text::Compressed(text.into_boxed_slice()))
    }

    /// What there is so far; None if that is nothing.
    pub fn copy(&self) -> Option<Block> {
        (self.verdicts > 0).then(|| self.block(Text::Plain(self.text.clone())))
    }

    fn block(&self, text: Text) -> Block {
        let (first, last) = self.times.unwrap_or_default();
        Block { text, verdicts: self.verdicts, first, last }
    }
}

// === impl Block ===

impl Block {
    /// Whether some of it can lie in that span.
    pub fn meets(&self, span: Span) -> bool {
        span.since.is_none_or(|since| self.last >= since) && span.until.is_none_or(|until| self.first < until)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match &self.text {
            Text::Plain(text) => text.len(),
            Text::Compressed(bytes) => bytes.len(),
        }
    }

    /// Its lines that are wanted, each with its line feed. Takes a millisecond or two.
    ///
    /// # Errors
    /// If memory was spoilt.
    pub fn lines(&self, wanted: &Selection) -> Result<String, Corrupt> {
        let text = self.text()?;
        let within = wanted.span.holds(self.first) && wanted.span.holds(self.last);
        if within && wanted.filter.takes_everything() {
            return Ok(text);
        }
        let mut lines = String::new();
        for line in text.split_inclusive('\n') {
            let view = serde_json::from_str(line).map_err(|error| self.corrupt(&error))?;
            if wanted.holds(&view) {
                lines.push_str(line);
            }
        }
        Ok(lines)
    }

    fn text(&self) -> Result<String, Corrupt> {
        match &self.text {
            Text::Plain(text) => Ok(text.clone()),
            Text::Compressed(bytes) => {
                let text =
                    lz4_flex::decompress_size_prepended(bytes).map_err(|error| self.corrupt(&error))?;
                String::from_utf8(text).map_err(|error| self.corrupt(&error))
            }
        }
    }

    fn corrupt(&self, reason: &dyn std::fmt::Display) -> Corrupt {
        Corrupt { verdicts: self.verdicts, reason: reason.to_string() }
    }
}
