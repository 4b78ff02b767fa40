//! The stream inside the agent: one publisher, many readers, none of which can hold it up, and the past.
//!
//! Each reader has a bounded queue. When it is full, the reader's lines are left out and counted, and it is
//! told how many and why before it gets the next one.

mod queue;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use queue::{MAX_WAITING, Why};

use queue::Queue;

use super::filter::Filter;
use super::history::{Extent, History, Past};
use super::selection::{Selection, Span};
use super::{Omitted, Sink, VerdictView};
use crate::verdict::Verdict;

/// Readers at one time; each costs a queue.
pub const MAX_READERS: usize = 64;

/// Called with the name of the reader for every line that it missed.
type CountDropped = Box<dyn Fn(&'static str) + Send>;
/// Called when the first reader wants the ends of healthy connections too, and when the last one left.
type SwitchAllEnds = Box<dyn Fn(bool) + Send>;

/// The publishing end; clones are the same hub.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    readers: Vec<Reader>,
    history: History,
    next_id: u64,
    all_ends: bool,
    switch_all_ends: Option<SwitchAllEnds>,
    count_dropped: Option<CountDropped>,
    /// Lines that wait for all readers.
    waiting: Arc<AtomicUsize>,
    hasher: RandomState,
}

struct Reader {
    id: u64,
    name: &'static str,
    filter: Filter,
    queue: Arc<Queue>,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Verdict(Arc<VerdictView>),
    Omitted(Omitted),
}

/// The reading end. Dropping it ends the subscription.
pub struct Subscription {
    id: u64,
    /// Weak, so that the stream ends when the last publisher goes.
    hub: Weak<Mutex<Inner>>,
    queue: Arc<Queue>,
}

/// There are as many readers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_READERS} watchers are connected already: end one of them")]
pub struct TooManyReaders;

// === impl Hub ===

impl Hub {
    /// Sets what counts the lines that a reader missed (`rstrace_events_dropped_total`).
    pub fn on_dropped(&self, count: impl Fn(&'static str) + Send + 'static) {
        self.lock().count_dropped = Some(Box::new(count));
    }

    /// Sets what switches the ends of healthy connections on and off in the kernel. It is called before
    /// [`Hub::subscribe`] returns, so that a reader who was told `ready` misses none.
    pub fn on_all_ends(&self, switch: impl Fn(bool) + Send + 'static) {
        let mut inner = self.lock();
        switch(inner.all_ends);
        inner.switch_all_ends = Some(Box::new(switch));
    }

    /// A new reader; `name` is the label `sink` of what it misses.
    ///
    /// # Errors
    /// If there are [`MAX_READERS`].
    pub fn subscribe(
        &self,
        name: &'static str,
        filter: Filter,
        capacity: usize,
    ) -> Result<Subscription, TooManyReaders> {
        self.lock().subscribe(name, filter, capacity, Arc::downgrade(&self.0))
    }

    /// A new reader that begins with the past: what is kept of the span, and from there on everything, no line twice
    /// and none missing between them.
    ///
    /// # Errors
    /// If there are [`MAX_READERS`].
    pub fn subscribe_since(
        &self,
        name: &'static str,
        selection: &Selection,
        capacity: usize,
    ) -> Result<(Past, Subscription), TooManyReaders> {
        let mut inner = self.lock();
        let subscription =
            inner.subscribe(name, selection.filter.clone(), capacity, Arc::downgrade(&self.0))?;
        Ok((inner.history.past(selection.span), subscription))
    }

    /// What is kept of that span.
    #[must_use]
    pub fn past(&self, span: Span) -> Past {
        self.lock().history.past(span)
    }

    /// How far back the past goes.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.lock().history.extent()
    }

    /// Begins with this past.
    pub fn remember(&self, history: History) {
        self.lock().history = history;
    }

    /// Hands a verdict to everyone who wants it, and keeps it if it is news; never waits.
    pub fn publish(&self, verdict: &Verdict, view: &Arc<VerdictView>) {
        let mut inner = self.lock();
        if verdict.is_news() {
            inner.history.keep(view);
        }
        let upstream = inner.hasher.hash_one((&view.upstream, &view.listener));
        for reader in &inner.readers {
            if reader.filter.shows(verdict, view)
                && !reader.queue.offer(view, upstream)
                && let Some(count) = &inner.count_dropped
            {
                count(reader.name);
            }
        }
    }

    /// Tells every reader that lines are missing for a reason that is not its own.
    pub fn miss(&self, count: u64, why: Why) {
        for reader in &self.lock().readers {
            reader.queue.miss(count, why);
        }
    }

    /// Whether any reader wants what harmed nobody.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.lock().all_ends
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half done while the lock is held, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Hub {
    fn deliver(&mut self, verdict: &Verdict, view: &Arc<VerdictView>) {
        self.publish(verdict, view);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Hub")
            .field("readers", &inner.readers.len())
            .field("all_ends", &inner.all_ends)
            .finish()
    }
}

// === impl Inner ===

impl Inner {
    fn subscribe(
        &mut self,
        name: &'static str,
        filter: Filter,
        capacity: usize,
        hub: Weak<Mutex<Self>>,
    ) -> Result<Subscription, TooManyReaders> {
        if self.readers.len() >= MAX_READERS {
            return Err(TooManyReaders);
        }
        let queue = Arc::new(Queue::new(capacity, Arc::clone(&self.waiting)));
        let id = self.next_id;
        self.next_id += 1;
        self.readers.push(Reader { id, name, filter, queue: Arc::clone(&queue) });
        self.settle_all_ends();
        Ok(Subscription { id, hub, queue })
    }

    fn settle_all_ends(&mut self) {
        let wanted = self.readers.iter().any(|r| r.filter.all);
        if wanted != self.all_ends {
            self.all_ends = wanted;
            if let Some(switch) = &self.switch_all_ends {
                switch(wanted);
            }
        }
    }
}

// === impl Reader ===

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue.close();
    }
}

// === impl Subscription ===

impl Subscription {
    /// The next line; None once the hub is gone. Cancelling the call loses nothing.
    pub async fn recv(&mut self) -> Option<Item> {
        self.queue.recv().await
    }

    /// The next line if there is one already.
    pub fn ready(&mut self) -> Option<Item> {
        self.queue.ready()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade().map(Hub) else { return };
        let mut inner = hub.lock();
        inner.readers.retain(|r| r.id != self.id);
        inner.settle_all_ends();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
