//! The last verdicts that were news, kept in memory for whoever comes later.
//!
//! They are kept as the lines that a reader gets, compressed in blocks: 50,000 of them take a few megabytes. What
//! harmed nobody is not kept, and neither are the closes of processes that only a watcher's `--gateway` names.

mod block;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

pub use block::{Block, Corrupt};

use block::Open;

use super::VerdictView;
use super::selection::Span;

/// Verdicts kept unless told otherwise.
pub const DEFAULT_CAPACITY: usize = 50_000;
/// Bytes of all blocks together, however few verdicts that is: names that processes choose may not compress.
const MAX_BYTES: usize = 32 << 20;

/// The store.
#[derive(Debug)]
pub struct History {
    blocks: VecDeque<Arc<Block>>,
    open: Open,
    capacity: usize,
    /// Verdicts in `blocks`.
    closed: usize,
    bytes: usize,
    forgotten: u64,
}

/// What was kept at one moment.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Oldest first; those that can hold something of the span that was asked for.
    pub blocks: Vec<Arc<Block>>,
    pub extent: Extent,
}

/// How far back the memory goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub kept: usize,
    pub capacity: usize,
    /// The time of the oldest verdict that is kept.
    pub oldest: Option<Timestamp>,
    /// Verdicts that had to make room for newer ones.
    pub forgotten: u64,
}

// === impl History ===

impl Default for History {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl History {
    /// Keeps at least the last `capacity` verdicts, as far as [`MAX_BYTES`] allows; 0 keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { blocks: VecDeque::new(), open: Open::default(), capacity, closed: 0, bytes: 0, forgotten: 0 }
    }

    /// Keeps a verdict, and forgets the oldest ones beyond the capacity.
    pub fn keep(&mut self, view: &VerdictView) {
        if self.capacity == 0 {
            self.forgotten += 1;
            return;
        }
        self.open.push(view);
        if self.open.is_full() {
            let block = std::mem::take(&mut self.open).close();
            self.closed += block.verdicts;
            self.bytes += block.bytes();
            self.blocks.push_back(Arc::new(block));
        }
        self.forget();
    }

    /// What is kept of that span, and how far back the memory goes.
    #[must_use]
    pub fn past(&self, span: Span) -> Past {
        let mut blocks: Vec<_> = self.blocks.iter().filter(|b| b.meets(span)).cloned().collect();
        if let Some(block) = self.open.copy()
            && block.meets(span)
        {
            blocks.push(Arc::new(block));
        }
        Past { blocks, extent: self.extent() }
    }

    /// How full it is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let oldest = self.blocks.front().map(|b| b.first).or_else(|| self.open.first());
        Extent {
            kept: self.closed + self.open.verdicts(),
            capacity: self.capacity,
            oldest,
            forgotten: self.forgotten,
        }
    }

    fn forget(&mut self) {
        while let Some(oldest) = self.blocks.front()
            && (self.closed + self.open.verdicts() >= self.capacity + oldest.verdicts
                || self.bytes > MAX_BYTES)
        {
            self.closed -= oldest.verdicts;
            self.bytes -= oldest.bytes();
            self.forgotten += oldest.verdicts as u64;
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
