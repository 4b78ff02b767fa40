//! Child processes: run to the end, wait with a deadline, stop on drop, read lines with deadlines.
//! It knows nothing of what the children are.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

/// Runs a command to its end and fails with what it said on stderr.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Copies a program. A child does it: what this process writes to, every child that it forks meanwhile has open as well,
/// and the kernel runs no program that somebody may write to (ETXTBSY).
///
/// # Errors
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--dereference").arg(from).arg(to))
}

/// Polls `probe` every few milliseconds until it gives a value.
///
/// # Errors
/// When it still gives none at the deadline.
pub fn poll<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child process that does not outlive its owner.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
}

impl Guarded {
    /// Starts `command`; should this test's thread be killed, so is the child.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        // SAFETY: between fork and exec this calls prctl(2) alone, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            })
        };
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's handle, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the child, which must not have been waited for yet.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) touches no memory; the child is not reaped before `wait`, so the pid is its.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Waits for the child's end.
    ///
    /// # Errors
    /// When it still runs at the deadline.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = self.pid();
        poll(&format!("the end of process {pid}"), limit, || self.child.try_wait().ok().flatten())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a program that ran to its end has left.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code, `None` for a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, whatever that is.
///
/// # Errors
/// When it cannot be started or still runs after `limit`; it is killed then.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Guarded::spawn(command)?;
    let stdout = whole(process.child().stdout.take());
    let stderr = whole(process.child().stderr.take());
    let status = process.wait(limit);
    drop(process);
    let [stdout, stderr] = [stdout, stderr].map(|thread| thread.join().unwrap_or_default());
    let status = status.with_context(|| format!("stdout: {stdout}\nstderr: {stderr}"))?;
    Ok(Ended { code: status.code(), stdout, stderr })
}

fn whole(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A line and the wall clock at which it arrived.
#[derive(Debug, Clone)]
pub struct Line {
    pub text: String,
    pub at: SystemTime,
}

/// The lines of a pipe, read by a thread so that each wait can have a deadline.
#[derive(Debug)]
pub struct Lines {
    receiver: Receiver<Line>,
}

impl Lines {
    /// Starts to read `pipe`.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(Line { text, at: SystemTime::now() }).is_err() {
                    break;
                }
            }
        });
        Self { receiver }
    }

    /// The next line, or `None` when none came until `deadline`.
    ///
    /// # Errors
    /// When the pipe was closed.
    pub fn next(&self, deadline: Instant) -> Result<Option<Line>> {
        match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the pipe was closed"),
        }
    }
}

/// What a child wrote to a pipe that matters only when something fails.
#[derive(Debug, Clone, Default)]
pub struct Gathered(Arc<Mutex<String>>);

impl Gathered {
    /// Starts to gather `pipe`.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let gathered = Self::default();
        let store = gathered.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = store.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
        gathered
    }

    /// What came until now.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
