//! What is compared: nothing, the agent, empty programs on its hooks, and what people use today.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::empty::EmptyPrograms;
use super::load::{Stage, on_processor};
use crate::agent::Agent;
use crate::board::Program;
use crate::netns::unique_port;
use crate::process::poll;

/// Who looks on while the load runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observer {
    Nobody,
    Agent,
    EmptyPrograms,
    Bpftrace,
    Tcpdump,
    Tcpstates,
    Tcplife,
}

/// The RSTs, and the connects that fail, one line each: the events of the agent, without owner, story or cause.
const SCRIPT: &str = r#"
tracepoint:tcp:tcp_send_reset { printf("sent %lx\n", args->skaddr); }
tracepoint:tcp:tcp_receive_reset { printf("received %lx\n", args->skaddr); }
tracepoint:sock:inet_sock_set_state /args->newstate == 7 && args->oldstate == 2/ {
    printf("failed %lx %d\n", args->skaddr, args->dport);
}"#;

/// The kernel's tracing files, in a mount namespace of the tool's own: they are not mounted everywhere.
const WITH_TRACEFS: &str = r#"
mount -t debugfs none /sys/kernel/debug 2>/dev/null
mount -t tracefs none /sys/kernel/tracing 2>/dev/null
exec "$@""#;

impl Observer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Agent => "the agent",
            Self::EmptyPrograms => "empty programs",
            Self::Bpftrace => "bpftrace, RSTs and failed connects",
            Self::Tcpdump => "tcpdump, RST/FIN filter",
            Self::Tcpstates => "tcpstates (libbpf-tools)",
            Self::Tcplife => "tcplife (libbpf-tools)",
        }
    }

    /// Starts it, and returns once it is known to see what happens on the stage.
    ///
    /// # Errors
    /// When it cannot run here; the error says why.
    pub fn start(self, stage: &Stage) -> Result<Watching> {
        Ok(match self {
            Self::Nobody => Watching::Nobody,
            Self::Agent => Watching::Agent(Agent::start_with(&[])?),
            Self::EmptyPrograms => {
                Watching::Empty { _programs: EmptyPrograms::attach(&Agent::start_with(&[])?.scrape()?)? }
            }
            Self::Bpftrace => Watching::Tool(Tool::start(stage, &["bpftrace", "-e", SCRIPT])?),
            Self::Tcpdump => {
                let filter = "tcp[tcpflags] & (tcp-rst | tcp-fin) != 0";
                Watching::Tool(Tool::start(stage, &["tcpdump", "-n", "-l", "-i", "lo", filter])?)
            }
            Self::Tcpstates => Watching::Tool(Tool::start(stage, &["tcpstates"])?),
            Self::Tcplife => Watching::Tool(Tool::start(stage, &["tcplife"])?),
        })
    }
}

/// A running observer, which ends on drop.
#[derive(Debug)]
pub enum Watching {
    Nobody,
    Agent(Agent),
    Empty { _programs: EmptyPrograms },
    Tool(Tool),
}

impl Watching {
    /// How long its own process has been on a processor.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        match self {
            Self::Nobody | Self::Empty { .. } => Ok(0.0),
            Self::Agent(agent) => on_processor(agent.pid()).context("the agent has ended"),
            Self::Tool(tool) => on_processor(tool.program.pid())
                .with_context(|| format!("the tool has ended: {}", tool.program.said())),
        }
    }
}

/// A program of somebody else's, which writes to a file.
#[derive(Debug)]
pub struct Tool {
    program: Program,
    _folder: TempDir,
}

impl Tool {
    fn start(stage: &Stage, words: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-bench-").tempdir()?;
        let log = folder.path().join("said");
        let mut command = stage.net().gateway().command("unshare")?;
        command.args(["--mount", "--", "sh", "-c", WITH_TRACEFS, "sh", "stdbuf", "-oL"]).args(words);
        let program = Program::start(command, &log)?;
        let tool = Self { program, _folder: folder };
        tool.wait_until_it_sees(stage, &log).with_context(|| tool.why(words))?;
        Ok(tool)
    }

    /// Has connects refused until it speaks of one.
    fn wait_until_it_sees(&self, stage: &Stage, log: &Path) -> Result<()> {
        let port = unique_port();
        let refused = stage.net().gateway_ip();
        let log: PathBuf = log.into();
        poll("a line about a refused connect", Duration::from_secs(15), || {
            let _ = stage.net().gateway().enter(|| TcpStream::connect((refused, port)));
            let said = fs::read_to_string(&log).unwrap_or_default();
            said.contains(&port.to_string()).then_some(())
        })
    }

    fn why(&self, words: &[&str]) -> String {
        let said = self.program.said();
        let first = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim();
        format!("{} says: {first}", words.first().unwrap_or(&"it"))
    }
}
