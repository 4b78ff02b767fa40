//! A server or proxy on the stage: a process with all its children, whose words are kept in a file.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Guarded, poll};

/// A running program. It and its process group are killed on drop.
#[derive(Debug)]
pub struct Program {
    process: Guarded,
    log: PathBuf,
}

impl Program {
    /// Starts `command` as the leader of a process group; what it says goes to the file `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        Ok(Self { process: Guarded::spawn(&mut command)?, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The processes that it has started itself (not their children).
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Waits until it has as many children.
    ///
    /// # Errors
    /// When it has not within 10 s.
    pub fn wait_for_children(&self, count: usize) -> Result<Vec<u32>> {
        let pid = self.pid();
        poll(&format!("{count} children of process {pid}"), Duration::from_secs(10), || {
            let children = self.children();
            (children.len() >= count).then_some(children)
        })
        .with_context(|| self.said())
    }

    /// Sends a signal to the process itself. The sender is this process: neither its user nor its children.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<()> {
        self.process.wait(limit).map(drop).with_context(|| self.said())
    }

    /// All that it has said until now.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait_to_say(&self, text: &str, limit: Duration) -> Result<()> {
        poll(&format!("{text:?} in what it says"), limit, || self.said().contains(text).then_some(()))
            .with_context(|| self.said())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let group = self.process.pid().cast_signed();
        // SAFETY: kill(2) touches no memory; the group's leader is not reaped before `process` is dropped, unless it
        // was waited for, and then the group is empty or still its children's.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// The processes whose parent `pid` is.
pub fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
