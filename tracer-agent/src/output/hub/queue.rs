//! The lines that wait for one reader: bounded, alone and together with those of all other readers, and shared fairly
//! between upstreams.
//!
//! What is left of a queue that runs full is kept for upstreams of which hardly a line waits. So a reader who was
//! stopped during a flood finds the first break of another upstream among its lines.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Item, MAX_READERS};
use crate::output::{Omitted, VerdictView};

/// Lines that wait for all readers together, besides what each is sure of.
const POOL: usize = 8192;
/// Lines that may wait for a reader however many wait for others.
const SURE: usize = 128;
/// Lines of one upstream that find a place in what is kept for quiet ones.
const FEW: u32 = 4;

/// No more lines than this wait at any time: some 20 MB if no two readers wait for the same.
pub const MAX_WAITING: usize = POOL + MAX_READERS * SURE;

/// Why lines are missing from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    SlowReader,
    RingFull,
    Alike,
}

const WHYS: [Why; 3] = [Why::RingFull, Why::Alike, Why::SlowReader];

/// One reader's queue; the hub puts lines in and the subscription takes them out.
#[derive(Debug)]
pub struct Queue {
    capacity: usize,
    lines: Mutex<Lines>,
    news: Notify,
    /// What waits for all readers.
    total: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Lines {
    items: VecDeque<(Item, Option<u64>)>,
    /// Lines that wait, by upstream.
    waiting: HashMap<u64, u32>,
    /// What is missing since the last item, by `Why`.
    missing: [u64; WHYS.len()],
    closed: bool,
}

// === impl Why ===

impl Why {
    /// As the line says it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::SlowReader => "the reader was too slow",
            Self::Alike => {
                "more than 2,000 connects a second to one upstream failed alike; counted before all filters, and like \
                 the one that was told by upstream"
            }
            Self::RingFull => {
                "the kernel's ring buffer was full; counted before all filters, and as `unclassified` by upstream"
            }
        }
    }
}

// === impl Queue ===

impl Queue {
    pub fn new(capacity: usize, total: Arc<AtomicUsize>) -> Self {
        Self { capacity: capacity.max(1), lines: Mutex::default(), news: Notify::new(), total }
    }

    /// Queues a line of `upstream` after what says how many are missing before it, or counts it as missing too.
    pub fn offer(&self, view: &Arc<VerdictView>, upstream: u64) -> bool {
        let mut lines = self.lock();
        let gaps = lines.missing.iter().filter(|count| **count > 0).count();
        let quiet = lines.waiting.get(&upstream).is_none_or(|waiting| *waiting < FEW);
        let room = self.has_room(lines.items.len() + gaps, quiet);
        if room {
            self.tell_missing(&mut lines);
            *lines.waiting.entry(upstream).or_default() += 1;
            self.push(&mut lines, Item::Verdict(Arc::clone(view)), Some(upstream));
        } else {
            lines.missing[Why::SlowReader as usize] += 1;
        }
        drop(lines);
        self.news.notify_one();
        room
    }

    /// Says that lines are missing here that nobody made.
    pub fn miss(&self, count: u64, why: Why) {
        self.lock().missing[why as usize] += count;
        self.news.notify_one();
    }

    /// No more lines will come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// The next line; None once it is closed. Cancelling the call loses nothing.
    pub async fn recv(&self) -> Option<Item> {
        loop {
            {
                let mut lines = self.lock();
                if let Some(item) = self.pop(&mut lines) {
                    return Some(item);
                }
                if lines.closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// The next line if there is one already.
    pub fn ready(&self) -> Option<Item> {
        self.pop(&mut self.lock())
    }

    fn has_room(&self, waiting: usize, quiet: bool) -> bool {
        let upto = |bound: usize| if quiet { bound } else { bound.div_ceil(4) * 3 };
        let total = self.total.load(Ordering::Relaxed);
        waiting < upto(self.capacity) && (waiting < upto(SURE) || total < upto(POOL))
    }

    fn tell_missing(&self, lines: &mut Lines) {
        for why in WHYS {
            let count = std::mem::take(&mut lines.missing[why as usize]);
            if count > 0 {
                self.push(lines, Item::Omitted(Omitted::new(count, why.text())), None);
            }
        }
    }

    fn push(&self, lines: &mut Lines, item: Item, upstream: Option<u64>) {
        lines.items.push_back((item, upstream));
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    fn pop(&self, lines: &mut Lines) -> Option<Item> {
        if lines.items.is_empty() {
            self.tell_missing(lines);
        }
        let (item, upstream) = lines.items.pop_front()?;
        self.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(upstream) = upstream
            && let Some(waiting) = lines.waiting.get_mut(&upstream)
        {
            *waiting -= 1;
            if *waiting == 0 {
                lines.waiting.remove(&upstream);
            }
        }
        if lines.items.is_empty() {
            // What a flood needed is given back.
            lines.items.shrink_to(SURE);
            lines.waiting.shrink_to(SURE);
        }
        Some(item)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // Nothing is left half done while the lock is held, so a panic elsewhere does not spoil it.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.total.fetch_sub(self.lock().items.len(), Ordering::Relaxed);
    }
}
