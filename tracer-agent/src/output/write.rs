//! Lines to standard output.
//!
//! A thread of its own does the writing: a terminal that was stopped, or a pager that waits for a key, blocks
//! that thread and nothing else. A closed pipe (`rstrace watch | head`) is the ordinary end of the work.

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, BorrowedFd};

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::sync::{mpsc, oneshot};

use crate::kernel::privileges;

/// Lines that may wait for a reader before whoever makes them has to wait too.
const QUEUE: usize = 256;

/// Writes lines in order, from a thread of its own.
#[derive(Debug)]
pub struct LineWriter {
    queue: mpsc::Sender<String>,
    done: oneshot::Receiver<Result<(), WriteError>>,
}

/// Why no more lines can be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Whoever read has gone; the command has done its work (exit code 0).
    #[error("the reader of standard output has gone")]
    Closed,
    #[error("cannot write to standard output: {0}")]
    Io(io::Error),
}

// === impl LineWriter ===

impl LineWriter {
    /// To standard output; colours are taken out where it is no terminal or `NO_COLOR` is set.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn stdout() -> io::Result<Self> {
        Self::to(anstream::stdout())
    }

    /// To anything.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = mpsc::channel(QUEUE);
        let (report, done) = oneshot::channel();
        std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            let alone = privileges::give_up_all().map_err(WriteError::from);
            let done = alone.and_then(|()| write_all(BufWriter::new(out), lines));
            // Nobody may be there to hear how it ended: then nobody needs to.
            let _ = report.send(done);
        })?;
        Ok(Self { queue, done })
    }

    /// Queues a line, without its line feed.
    ///
    /// # Errors
    /// If an earlier line could not be written.
    pub async fn line(&mut self, line: String) -> Result<(), WriteError> {
        match self.queue.send(line).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.cause().await),
        }
    }

    /// Waits until every queued line is written.
    ///
    /// # Errors
    /// If one could not be written.
    pub async fn finish(self) -> Result<(), WriteError> {
        drop(self.queue);
        self.done.await.unwrap_or(Err(WriteError::Closed))
    }

    async fn cause(&mut self) -> WriteError {
        match (&mut self.done).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => WriteError::Closed,
        }
    }
}

fn write_all(mut out: impl Write, mut lines: mpsc::Receiver<String>) -> Result<(), WriteError> {
    while let Some(line) = lines.blocking_recv() {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        // A burst is written at once, a single line immediately.
        if lines.is_empty() {
            out.flush()?;
        }
    }
    Ok(out.flush()?)
}

/// Completes when the reading end of standard output is closed, even while there is nothing to write. Never
/// completes where that cannot happen (a file).
pub async fn stdout_closed() {
    reader_gone(io::stdout().as_fd()).await;
}

async fn reader_gone(out: BorrowedFd<'_>) {
    // Taken unchecked, since the checked way makes the pipe non-blocking for everyone who shares it; nothing is
    // written through this one.
    let watched = out.try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    // A regular file cannot be waited for, and does not go away.
    let Ok(watched) = watched else { return std::future::pending().await };
    if watched.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

// === impl WriteError ===

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_keep_their_order_and_finish_waits_for_them() {
        let shared = Shared::default();
        let mut writer = LineWriter::to(shared.clone()).unwrap();
        for i in 0..1000 {
            writer.line(i.to_string()).await.unwrap();
        }
        writer.finish().await.unwrap();
        let written = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        let expected: String = (0..1000).map(|i| format!("{i}\n")).collect();
        assert_eq!(written, expected);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_noticed_while_nothing_is_written() {
        let (reader, pipe) = io::pipe().unwrap();
        let mut gone = Box::pin(reader_gone(pipe.as_fd()));
        tokio::select! {
            biased;
            () = &mut gone => panic!("the reader is still there"),
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
        }
        drop(reader);
        gone.await;
    }

    #[tokio::test]
    async fn a_closed_pipe_is_told_from_a_full_disk() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let mut writer = LineWriter::to(pipe).unwrap();
        writer.line("one".to_owned()).await.unwrap();
        let mut first = [0; 4];
        reader.read_exact(&mut first).unwrap();
        drop(reader);
        let error = loop {
            if let Err(error) = writer.line("more".to_owned()).await {
                break error;
            }
        };
        assert!(matches!(error, WriteError::Closed), "{error}");

        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = LineWriter::to(full).unwrap();
        writer.line("one".to_owned()).await.unwrap();
        assert!(matches!(writer.finish().await, Err(WriteError::Io(_))));
    }
}
