//! Writes the journal while the agent works: verdicts go to a bounded queue, a thread of its own spells and writes
//! them. The agent never waits for the disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::append::{Appender, Short};
use super::files::{Place, shown};
use super::read::{Skipped, read_last};
use super::{JournalError, SMALLEST};
use crate::kernel::privileges;
use crate::output::history::History;
use crate::output::{Omitted, Sink, VerdictView};
use crate::verdict::Verdict;

/// Verdicts that the disk may be behind: some 6 MB if no reader waits for the same.
const QUEUE: usize = 4096;
/// Bytes that are written at once, besides the last line: half of the smallest file.
const BATCH: usize = SMALLEST as usize / 2;
/// Between two warnings that the disk takes nothing.
const WARNING: Duration = Duration::from_secs(60);

const WHY: &str = "the disk of the journal had no room or was too slow";

/// Called with the number of verdicts that were left out.
type CountDropped = Arc<dyn Fn(u64) + Send + Sync>;

/// Reads the past from disk, while the agent starts.
#[derive(Debug)]
pub struct Opening {
    path: PathBuf,
    thread: JoinHandle<Result<Opened, JournalError>>,
}

/// A journal that was read and may be written.
#[derive(Debug)]
pub struct Opened {
    pub appender: Appender,
    /// The last verdicts that it holds.
    pub history: History,
    /// What it does not say of them.
    pub skipped: Skipped,
}

/// The agent's end.
pub struct Journal {
    queue: SyncSender<Arc<VerdictView>>,
    /// What found no place in the queue, until the file says so.
    left_out: Arc<AtomicU64>,
    count: CountDropped,
}

/// The command's end.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<()>);

/// What the thread works with.
struct Writer {
    out: Appender,
    left_out: Arc<AtomicU64>,
    count: CountDropped,
    /// Verdicts that are missing and of which the file does not say so yet.
    missing: u64,
    warned: Option<Instant>,
}

// === impl Opening ===

impl Opening {
    /// Begins to read the last `capacity` verdicts, in a thread with the rights of the one that will write: none but
    /// its user's.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn begin(place: Place, capacity: usize) -> io::Result<Self> {
        let path = place.path.clone();
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || open(place, capacity))?;
        Ok(Self { path, thread })
    }

    /// Waits for the past.
    ///
    /// # Errors
    /// If it cannot be read, or the journal cannot be written.
    pub fn finish(self) -> Result<Opened, JournalError> {
        self.thread.join().unwrap_or_else(|_| {
            let source = io::Error::other("the thread that reads it has panicked");
            Err(JournalError::Io { action: "read the journal", file: shown(&self.path), source })
        })
    }
}

fn open(place: Place, capacity: usize) -> Result<Opened, JournalError> {
    privileges::give_up_all().map_err(|source| JournalError::Io {
        action: "open the journal",
        file: shown(&place.path),
        source,
    })?;
    let mut history = History::new(capacity);
    // Before anything is written, so that a file that is no journal stays as it is.
    let skipped = read_last(&place.path, capacity as u64, |view| history.keep(&view))?;
    Ok(Opened { appender: Appender::open(place)?, history, skipped })
}

// === impl Journal ===

impl Journal {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(out: Appender, count: impl Fn(u64) + Send + Sync + 'static) -> io::Result<(Self, Written)> {
        let (queue, views) = sync_channel(QUEUE);
        let (report, written) = oneshot::channel();
        let left_out = Arc::<AtomicU64>::default();
        let count: CountDropped = Arc::new(count);
        let writer = Writer {
            out,
            left_out: Arc::clone(&left_out),
            count: Arc::clone(&count),
            missing: 0,
            warned: None,
        };
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            match privileges::give_up_all() {
                Ok(()) => writer.work(&views),
                Err(error) => tracing::error!("no journal is written: {error}"),
            }
            // Nobody may be there to hear that it is done: then nobody needs to.
            let _ = report.send(());
        })?;
        Ok((Self { queue, left_out, count }, Written(written)))
    }
}

impl Sink for Journal {
    fn deliver(&mut self, verdict: &Verdict, view: &Arc<VerdictView>) {
        if verdict.is_news() && self.queue.try_send(Arc::clone(view)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            (self.count)(1);
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

// === impl Written ===

impl Written {
    /// Waits until everything is written, once the [`Journal`] has gone.
    pub async fn finish(self) {
        // An error is a thread that has ended.
        let _ = self.0.await;
    }
}

// === impl Writer ===

impl Writer {
    fn work(mut self, views: &Receiver<Arc<VerdictView>>) {
        while let Ok(view) = views.recv() {
            let mut lines = String::new();
            let mut verdicts = 0;
            let mut next = Some(view);
            // A burst is written at once, a single line immediately.
            while let Some(view) = next {
                lines.push_str(&view.to_json());
                lines.push('\n');
                verdicts += 1;
                next = if lines.len() < BATCH { views.try_recv().ok() } else { None };
            }
            self.write(&lines, verdicts);
        }
        self.write("", 0);
    }

    /// Appends lines of so many verdicts, after one that says how many are missing before them.
    fn write(&mut self, lines: &str, verdicts: u64) {
        self.missing += self.left_out.swap(0, Ordering::Relaxed);
        let omitted =
            if self.missing > 0 { Omitted::new(self.missing, WHY).to_json() + "\n" } else { String::new() };
        match self.out.append(&(omitted.clone() + lines)) {
            Ok(()) => self.missing = 0,
            Err(Short { whole, error }) => {
                let told = !omitted.is_empty() && whole >= omitted.len();
                let appended = lines.get(..whole.saturating_sub(omitted.len())).unwrap_or_default();
                let lost = verdicts - appended.matches('\n').count() as u64;
                self.missing = if told { lost } else { self.missing + lost };
                (self.count)(lost);
                self.warn(&error);
            }
        }
    }

    fn warn(&mut self, error: &io::Error) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARNING) {
            self.warned = Some(Instant::now());
            let (file, missing) = (shown(self.out.path()), self.missing);
            tracing::warn!(
                "cannot write the journal {file}: {error}; {missing} verdicts are missing in it, and it goes on by itself"
            );
        }
    }
}
