//! Writes a recording while the agent works: lines go to a bounded queue, a thread of its own writes them.
//!
//! The agent never waits for the file. What the queue cannot hold is left out, and the file says how much.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

use serde::Serialize;
use tokio::sync::oneshot;

use super::{Answer, Answers, Header, Line, Question};
use crate::agent::Input;
use crate::enrich::container::Container;
use crate::enrich::endpoint::Endpoint;
use crate::enrich::gateways::Registration;
use crate::enrich::pods::Pod;
use crate::event::{Process, Target};
use crate::kernel::privileges;
use crate::output::Names;
use crate::output::text::printable_json;

/// Lines that the file may be behind; a line has about 1 KB.
const QUEUE: usize = 16_384;
/// Bytes searched at once for the end of the last whole line.
const CHUNK: u64 = 4096;

/// The agent's end.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<String>,
    answers: Answers,
    /// Lines left out since the last one that found a place.
    omitted: u64,
    warned: bool,
}

/// The command's end: says how the writing went.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<Result<(), RecordError>>);

/// Why there is no recording, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Whoever read it from a pipe has gone; that is an ordinary end.
    #[error("the reader of the recording has gone")]
    Closed,
    #[error("cannot write the recording to {to}: {source}")]
    Io { to: String, source: io::Error },
}

/// Passes questions on, and keeps the answers for the recording.
pub struct NotedNames<'a> {
    names: &'a dyn Names,
    noted: RefCell<Vec<Answer>>,
}

// === impl Recorder ===

impl Recorder {
    /// Begins a recording in a file; what was in it is gone.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn file(path: &Path) -> Result<(Self, Written), RecordError> {
        let to = path.display().to_string();
        let failed = |source| RecordError::Io { to: path.display().to_string(), source };
        // Readable as well: after a failed write the last whole line is looked for.
        let open = File::options().create(true).truncate(true).read(true).write(true).open(path);
        let file = match open {
            // A pipe or a device that can only be written.
            Err(_) if path.exists() => File::options().write(true).open(path).map_err(failed)?,
            opened => opened.map_err(failed)?,
        };
        Self::start(to, move |lines| {
            let written = write_all(&file, lines);
            if written.is_err() {
                // Best effort: a torn last line is passed over by a replay.
                let _ = cut_torn_line(&file);
            }
            written
        })
    }

    /// Begins a recording on standard output.
    ///
    /// # Errors
    /// If the thread that writes cannot be started.
    pub fn stdout() -> Result<(Self, Written), RecordError> {
        Self::start("standard output".to_owned(), |lines| write_all(io::stdout(), lines))
    }

    fn start(
        to: String,
        write: impl FnOnce(&Receiver<String>) -> io::Result<()> + Send + 'static,
    ) -> Result<(Self, Written), RecordError> {
        let (queue, lines) = sync_channel(QUEUE);
        let (report, written) = oneshot::channel();
        let name = to.clone();
        std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || {
                // The file is open already.
                let alone = privileges::give_up_all();
                let done = alone.and_then(|()| write(&lines)).map_err(|source| match source.kind() {
                    io::ErrorKind::BrokenPipe => RecordError::Closed,
                    _ => RecordError::Io { to: name, source },
                });
                // Nobody may be there to hear how it ended: then nobody needs to.
                let _ = report.send(done);
            })
            .map_err(|source| RecordError::Io { to, source })?;
        Ok((Self { queue, answers: Answers::default(), omitted: 0, warned: false }, Written(written)))
    }

    /// The first line, and what existed at the start: waits for the file, since nothing else has begun.
    pub fn begin(&mut self, header: &Header, existing: &[Input]) {
        let header = json(&Line::Recording(header.clone()));
        for line in std::iter::once(header).chain(existing.iter().map(input_line)) {
            // If the writer has gone, `Written` says why.
            let _ = self.queue.send(line);
        }
    }

    /// An input that the core has taken, and the answers that its verdict needed.
    pub fn input(&mut self, line: String, answers: Vec<Answer>) {
        for answer in answers {
            if !self.answers.knows(&answer) {
                self.answers.learn(answer.clone());
                self.offer(json(&Line::Name(Box::new(answer))));
            }
        }
        self.offer(line);
    }

    #[cfg(test)]
    pub(super) fn omitted(&self) -> bool {
        self.omitted > 0
    }

    fn offer(&mut self, line: String) {
        if self.omitted > 0 {
            if !self.queued(json(&Line::Omitted { count: self.omitted })) {
                self.omitted += 1;
                return;
            }
            self.omitted = 0;
        }
        if !self.queued(line) {
            self.omitted += 1;
            if !self.warned {
                self.warned = true;
                tracing::warn!(
                    "the recording cannot keep up: lines are left out of it, and it says how many"
                );
            }
        }
    }

    /// A writer that has gone misses nothing.
    fn queued(&self, line: String) -> bool {
        !matches!(self.queue.try_send(line), Err(TrySendError::Full(_)))
    }
}

/// An input as a line, without its line feed.
#[must_use]
pub fn input_line(input: &Input) -> String {
    match *input {
        Input::Event(ref event) => json(event),
        Input::Drops(drops) => json(&Line::QueueDrops(drops)),
        Input::Settle { now_ns } => json(&Line::Settle { now_ns }),
        Input::Tick { now_ns, clock_offset_ns } => json(&Line::Tick { now_ns, clock_offset_ns }),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    // Only a map with keys that are no strings, or a failing Serialize, could fail here: neither exists.
    printable_json(serde_json::to_string(value).unwrap_or_default())
}

fn write_all(out: impl Write, lines: &Receiver<String>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                // A burst is written at once, a single line immediately.
                out.flush()?;
                let Ok(line) = lines.recv() else { break };
                line
            }
        };
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Shortens a file that ends in the middle of a line to the lines that are whole.
pub(super) fn cut_torn_line(mut file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    let mut end = metadata.len();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return file.set_len(start + at as u64 + 1);
        }
        end = start;
    }
    file.set_len(0)
}

// === impl Written ===

impl Written {
    /// Completes when no more can be written; otherwise never.
    pub async fn failed(&mut self) -> RecordError {
        match (&mut self.0).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => std::future::pending().await,
        }
    }

    /// Waits until everything is written, once the [`Recorder`] has gone.
    ///
    /// # Errors
    /// If something could not be written.
    pub async fn finish(self) -> Result<(), RecordError> {
        self.0.await.unwrap_or(Ok(()))
    }
}

// === impl NotedNames ===

impl<'a> NotedNames<'a> {
    #[must_use]
    pub fn new(names: &'a dyn Names) -> Self {
        Self { names, noted: RefCell::default() }
    }

    #[must_use]
    pub fn answers(self) -> Vec<Answer> {
        self.noted.into_inner()
    }

    fn note(&self, question: Question, name: Option<String>) {
        self.noted.borrow_mut().push(Answer::named(question, name));
    }
}

impl Names for NotedNames<'_> {
    fn cgroup(&self, process: &Process) -> Option<String> {
        let path = self.names.cgroup(process);
        self.note(Question::cgroup_of(process), path.clone());
        path
    }

    fn pod(&self, container: &Container) -> Option<Pod> {
        let pod = self.names.pod(container);
        let answer = Answer { pod: pod.clone(), ..Answer::named(Question::pod_of(container), None) };
        self.noted.borrow_mut().push(answer);
        pod
    }

    fn reset_reason(&self, number: u32) -> Option<String> {
        // The header has them all.
        self.names.reset_reason(number)
    }

    fn scope(&self, netns: u32) -> String {
        let scope = self.names.scope(netns);
        self.note(Question::Scope { netns }, Some(scope.clone()));
        scope
    }

    fn endpoint(&self, target: &Target, local: Option<SocketAddr>) -> Option<Endpoint> {
        let endpoint = self.names.endpoint(target, local);
        let local = local.filter(|_| endpoint.as_ref().is_some_and(|endpoint| endpoint.address.is_some()));
        let question = Question::Endpoint { target: target.clone(), local };
        let answer = Answer { endpoint: endpoint.clone(), ..Answer::named(question, None) };
        self.noted.borrow_mut().push(answer);
        endpoint
    }

    fn registration(&self, target: &Target, netns: u32, owner: Option<&Process>) -> Option<Registration> {
        let registration = self.names.registration(target, netns, owner);
        let question = Question::registration_of(target, netns, owner);
        let answer = Answer { registration: registration.clone(), ..Answer::named(question, None) };
        self.noted.borrow_mut().push(answer);
        registration
    }
}
