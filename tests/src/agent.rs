//! Runs `rstrace` as an operator does: the daemon with live JSON lines, or `watch` by itself, and
//! gives the lines with deadlines. It judges nothing; see `expect.rs`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::client::dial_refused;
use crate::netns::Namespace;
use crate::process::{Gathered, Guarded, Lines, poll};
use crate::scrape::Scrape;

/// Loading runs the kernel's verifier once for each program; on an emulated CPU it takes seconds.
/// An emulated processor beside a compiler takes its time.
const READY: Duration = Duration::from_secs(90);

/// One JSON line and the wall clock at which it arrived.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub json: Value,
    pub at: SystemTime,
}

/// A running `rstrace` whose JSON lines are read.
#[derive(Debug)]
pub struct Agent {
    process: Guarded,
    stdout: Lines,
    stderr: Gathered,
    folder: TempDir,
    listen: SocketAddr,
    /// Every line since `ready`, other tests' included.
    seen: Vec<Verdict>,
    pub ready: Value,
}

impl Agent {
    /// Starts the daemon with live lines on stdout, and returns once every hook is attached.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start(all: bool) -> Result<Self> {
        Self::start_with(if all { &["--all"] } else { &[] })
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::start_as(Command::new(binary()?), arguments)
    }

    /// The same as the daemon that `command` starts, such as one with fewer capabilities.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start_as(command: Command, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-agent-").tempdir()?;
        Self::start_in(command, folder, free_port()?, arguments)
    }

    fn start_in(
        mut command: Command,
        folder: TempDir,
        listen: SocketAddr,
        arguments: &[&str],
    ) -> Result<Self> {
        daemon(&mut command, folder.path(), listen).args(arguments);
        Self::ready_or_why(command, folder, listen)
    }

    /// Kills the daemon with SIGKILL and starts it again at the same place, with whatever it has left there.
    ///
    /// # Errors
    /// When the next one is not ready in time.
    pub fn killed_and_started_again(self) -> Result<Self> {
        self.killed_and_started_with(&[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// When the next one is not ready in time.
    pub fn killed_and_started_with(mut self, arguments: &[&str]) -> Result<Self> {
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(20))?;
        let Self { folder, listen, .. } = self;
        Self::start_in(Command::new(binary()?), folder, listen, arguments)
    }

    /// What it has kept, oldest first, as its socket tells it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn history(&self) -> Result<Vec<Value>> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"{\"schema\":1,\"want\":\"history\"}\n")?;
        let mut verdicts = Vec::new();
        for line in BufReader::new(stream).lines() {
            let line: Value = serde_json::from_str(&line?)?;
            match line["kind"].as_str() {
                Some("verdict") => verdicts.push(line),
                Some("ready") => {}
                Some("history") => return Ok(verdicts),
                _ => bail!("an unexpected line: {line}"),
            }
        }
        bail!("the history has no end")
    }

    /// Starts `watch --json` with further arguments. It serves no metrics.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn watch(arguments: &[&str]) -> Result<Self> {
        Self::watch_as(Command::new(binary()?), arguments)
    }

    /// The same as the program that `command` starts.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn watch_as(mut command: Command, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-watch-").tempdir()?;
        command.args(["watch", "--json"]).args(arguments);
        if !arguments.contains(&"--socket") {
            // An agent that happens to run on this machine must not answer in our place.
            command.arg("--socket").arg(folder.path().join("nobody.sock"));
        }
        Self::ready_or_why(command, folder, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn ready_or_why(mut command: Command, folder: TempDir, listen: SocketAddr) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        let stdout = Lines::of(process.child().stdout.take().context("the agent's stdout is piped")?);
        let stderr = Gathered::of(process.child().stderr.take().context("the agent's stderr is piped")?);
        let mut agent =
            Self { process, stdout, stderr, folder, listen, seen: Vec::new(), ready: Value::Null };
        let first = agent.read_line(Instant::now() + READY)?;
        let Some(first) = first else {
            bail!("the agent was not ready within {READY:?}: {}", agent.stderr())
        };
        ensure!(first.json["kind"] == "ready", "the first line is {}", first.json);
        agent.ready = first.json;
        Ok(agent)
    }

    /// Makes it say something: a connect from `from` that nobody takes at `upstream`.
    ///
    /// # Errors
    /// When the connect is not refused, or there is no line about it within `limit`.
    pub fn sees_a_refusal(
        &mut self,
        from: &Namespace,
        upstream: SocketAddr,
        limit: Duration,
    ) -> Result<Verdict> {
        dial_refused(from, upstream, 1)?;
        self.wait_for("a refused connect", limit, |line| {
            line["upstream"] == upstream.to_string() && line["cause"] == "no_listener"
        })
    }

    /// Waits for the first line since `ready` for which `wanted` holds.
    ///
    /// # Errors
    /// When there is none within `limit`, or the agent ended.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Verdict> {
        if let Some(line) = self.seen.iter().find(|line| wanted(&line.json)) {
            return Ok(line.clone());
        }
        let deadline = Instant::now() + limit;
        while let Some(line) = self.read_line(deadline)? {
            self.seen.push(line.clone());
            if wanted(&line.json) {
                return Ok(line);
            }
        }
        bail!("no line about {what} within {limit:?}")
    }

    /// Reads whatever comes within `time`, so that what the settle window still holds is seen.
    ///
    /// # Errors
    /// When the agent ended.
    pub fn read_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while let Some(line) = self.read_line(deadline)? {
            self.seen.push(line);
        }
        Ok(())
    }

    /// Forgets the lines until now, so that the next wait is for a new one.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// The agent's memory in kB: `VmRSS` of `/proc/PID/status`.
    ///
    /// # Errors
    /// When the agent has ended.
    pub fn resident_kb(&self) -> Result<u64> {
        self.status_kb("VmRSS")
    }

    /// What it has allocated, without files and maps, in kB: `RssAnon`.
    ///
    /// # Errors
    /// When the agent has ended.
    pub fn anonymous_kb(&self) -> Result<u64> {
        self.status_kb("RssAnon")
    }

    fn status_kb(&self, field: &str) -> Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).context("the agent's status")?;
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = value.with_context(|| format!("no {field}"))?;
        value.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field} is no number"))
    }

    /// Every line since `ready`.
    pub fn seen(&self) -> &[Verdict] {
        &self.seen
    }

    /// Reads `/metrics` over HTTP.
    ///
    /// # Errors
    /// When the agent does not answer with 200.
    pub fn scrape(&self) -> Result<Scrape> {
        Scrape::of(self.listen)
    }

    /// The agent's HTTP address.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The agent's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    /// The agent's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the agent logged until now.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until the agent has logged this text, which comes by another way than what it tells; gives all of its log.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub fn logs(&self, text: &str) -> Result<String> {
        poll(&format!("{text:?} in the log"), Duration::from_secs(30), || {
            Some(self.stderr()).filter(|log| log.contains(text))
        })
        .with_context(|| self.stderr())
    }

    /// Sends a signal to the agent.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits for the agent's end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }

    fn read_line(&mut self, deadline: Instant) -> Result<Option<Verdict>> {
        let line =
            self.stdout.next(deadline).with_context(|| format!("the agent ended: {}", self.stderr()))?;
        let Some(line) = line else { return Ok(None) };
        let json = serde_json::from_str(&line.text).with_context(|| format!("not JSON: {:?}", line.text))?;
        Ok(Some(Verdict { json, at: line.at }))
    }
}

/// The arguments of a daemon that writes its lines to stdout, and has its socket, `s.sock`, in `folder`.
pub fn daemon<'a>(command: &'a mut Command, folder: &Path, listen: SocketAddr) -> &'a mut Command {
    command.args(["agent", "--watch", "--json", "--listen", &listen.to_string(), "--socket"]);
    command.arg(folder.join("s.sock"))
}

/// The program under test: `RSTRACE_BIN`, else the workspace's release build.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/rstrace");
    let path = std::env::var_os("RSTRACE_BIN").map_or_else(default, PathBuf::from);
    ensure!(path.exists(), "{} is missing: cargo xtask build, or name it in RSTRACE_BIN", path.display());
    Ok(path)
}

/// A TCP port of loopback on which nobody listens at this moment.
///
/// It is bound and never listened on: who listens is a gateway to the agents that already run, and this process is
/// the client of every case that plays. It stays bound, so that nobody else is given the port; who asks for it by number
/// may have it (SO_REUSEADDR on both sides).
///
/// # Errors
/// When none can be bound.
pub fn free_port() -> Result<SocketAddr> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let address = socket.local_addr()?.as_socket().context("a bound socket has no address")?;
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    Ok(address)
}
