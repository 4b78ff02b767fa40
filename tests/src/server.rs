//! The upstream: starts `fault_server`, the real process behind the gateway, and tells it to end.
//! What it does with a request is the request's choice, see `src/bin/fault_server.rs`.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::cgroup::{MemoryCgroup, NamedCgroup};
use crate::netns::Namespace;
use crate::process::{Gathered, Guarded, Lines, run};

/// The name under which the kernel knows the server's process.
pub const COMM: &str = "fault_server";

/// For what a server does at once, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(20);

/// A running upstream process.
#[derive(Debug)]
pub struct Server {
    process: Guarded,
    stdout: Lines,
    stderr: Gathered,
}

impl Server {
    /// Starts the server in `namespace` and returns once it listens.
    ///
    /// # Errors
    /// When the program is missing or cannot listen.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        arguments: &[&str],
        cgroup: Option<&MemoryCgroup>,
    ) -> Result<Self> {
        let server = Self::launch(namespace.command(program()?)?, address, arguments)?;
        if let Some(cgroup) = cgroup {
            cgroup.add(server.pid())?;
        }
        server.wait_for("listening")?;
        Ok(server)
    }

    /// The same in a cgroup that it is in before it runs, as container runtimes start theirs.
    ///
    /// # Errors
    /// When the program is missing or cannot listen.
    pub fn start_in(namespace: &Namespace, address: SocketAddr, cgroup: &NamedCgroup) -> Result<Self> {
        let mut command = namespace.command("sh")?;
        command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(cgroup.processes()).arg(program()?);
        let server = Self::launch(command, address, &[])?;
        server.wait_for("listening")?;
        Ok(server)
    }

    fn launch(mut command: Command, address: SocketAddr, arguments: &[&str]) -> Result<Self> {
        command.arg(address.to_string()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec this calls setrlimit(2) alone, on a value of its own.
        unsafe {
            command.pre_exec(|| {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
                Ok(())
            })
        };
        let mut process = Guarded::spawn(&mut command)?;
        let stdout = Lines::of(process.child().stdout.take().context("the server's stdout is piped")?);
        let stderr = Gathered::of(process.child().stderr.take().context("the server's stderr is piped")?);
        Ok(Self { process, stdout, stderr })
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until the server has said `line`: `listening`, or the path of a request it has read.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub fn wait_for(&self, line: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let next =
                self.stdout.next(deadline).with_context(|| format!("server: {}", self.stderr.text()))?;
            match next {
                Some(said) if said.text == line => return Ok(()),
                Some(_) => {}
                None => return Err(anyhow!("the server did not say {line:?} within {LIMIT:?}")),
            }
        }
    }

    /// Lets the server end by itself, with this exit code.
    ///
    /// # Errors
    /// When it does not.
    pub fn exit(&mut self, code: i32) -> Result<ExitStatus> {
        let stdin = self.process.child().stdin.as_mut().context("the server's stdin is piped")?;
        writeln!(stdin, "exit {code}")?;
        self.process.wait(LIMIT)
    }

    /// Has another process, neither this one nor the server's parent, kill the server.
    /// Gives the killer's process id.
    ///
    /// # Errors
    /// When the killer cannot be run or the server survives.
    pub fn killed_by_a_shell(&mut self) -> Result<u32> {
        let killer = kill_by_a_shell(self.pid())?;
        self.process.wait(LIMIT)?;
        Ok(killer)
    }

    /// Waits for the server's end, however it comes.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait(LIMIT)
    }
}

/// Has a shell kill a process and gives the shell's process id.
///
/// # Errors
/// When the shell cannot be run.
pub fn kill_by_a_shell(victim: u32) -> Result<u32> {
    let mut killer = Command::new("sh");
    // `kill` is built into the shell, so the shell itself is the sender.
    killer.args(["-c", "kill -KILL \"$1\"; exit $?", "sh", &victim.to_string()]);
    let mut killer = Guarded::spawn(&mut killer)?;
    let pid = killer.pid();
    killer.wait(LIMIT)?;
    Ok(pid)
}

/// Cargo builds the package's programs beside the folder that holds the test.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RSTRACE_FAULT_SERVER") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let folder = test.parent().context("the test's folder has a parent")?;
    // Beside this program, or beside the folder that holds the tests.
    let mut places = [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join(COMM));
    let program = places.rfind(|program| program.exists()).unwrap_or_else(|| folder.join(COMM));
    anyhow::ensure!(
        program.exists(),
        "{} is missing: cargo build -p rstrace-tests --bins",
        program.display()
    );
    Ok(program)
}

/// Fails with one clear line when a program that the tests run is not installed.
///
/// # Errors
/// When it is not.
pub fn require_program(name: &str) -> Result<()> {
    run(Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", name]))
        .map_err(|_| anyhow!("{name} is missing: install what tests/packages.txt lists"))
}
