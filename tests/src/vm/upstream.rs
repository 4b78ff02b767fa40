//! The upstream of the scenarios: one `fault_server` process for each.

use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::cgroup::MemoryCgroup;
use rstrace_tests::process::{Guarded, Lines};

/// The processor is emulated: what takes milliseconds elsewhere may take seconds here.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    process: Guarded,
    stdout: Lines,
}

impl Upstream {
    /// Starts a server on `address` and returns once it listens.
    pub fn start(address: SocketAddr, arguments: &[&str], cgroup: Option<&MemoryCgroup>) -> Result<Self> {
        let mut command = Command::new("/bin/fault_server");
        command.arg(address.to_string()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        if let Some(cgroup) = cgroup {
            cgroup.add(process.pid())?;
        }
        let stdout = Lines::of(process.child().stdout.take().context("the server's stdout is piped")?);
        let upstream = Self { address, process, stdout };
        upstream.wait_for("listening")?;
        Ok(upstream)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until the server has said `line`: `listening`, or the path of a request it has read.
    pub fn wait_for(&self, line: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(said) = self.stdout.next(deadline).context("fault_server")? {
            if said.text == line {
                return Ok(());
            }
        }
        anyhow::bail!("fault_server did not say {line:?} within {PATIENCE:?}")
    }

    pub fn lives(&mut self) -> bool {
        self.process.child().try_wait().is_ok_and(|status| status.is_none())
    }

    /// Has a process that is not the server's parent kill it. Gives that process's id.
    pub fn killed_by_another(&mut self) -> Result<u32> {
        let mut killer = Guarded::spawn(Command::new("/init").args(["kill", &self.pid().to_string()]))?;
        let status = killer.wait(PATIENCE)?;
        ensure!(status.success(), "the killer: {status}");
        self.process.wait(PATIENCE)?;
        Ok(killer.pid())
    }
}

/// The killer's whole life.
pub fn kill(pid: &str) -> ExitCode {
    let Ok(pid) = pid.parse() else { return ExitCode::from(2) };
    // SAFETY: kill(2) touches no memory of this process.
    let code = unsafe { libc::kill(pid, libc::SIGKILL) };
    if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
