//! The command line: what can be typed, and how it is read.
//!
//! Reads words into values and nothing else; it opens no file and starts nothing. clap ends the process with
//! exit code 2 on wrong usage.

mod explain;
mod filter;
mod journal;
mod query;
mod recording;
mod report;
mod top;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;

pub use explain::ExplainArgs;
pub use filter::{FilterArgs, SpanError, When, now};
pub use journal::JournalArgs;
pub use query::selection_of;
pub use recording::{RecordArgs, ReplayArgs};
pub use report::ReportArgs;
pub use top::{TopArgs, TypedFilter};

use crate::enrich::{Sources, pods};
use crate::kernel::Groups;
use crate::output::filter::GatewayFilter;
#[cfg(feature = "otlp")]
use crate::output::otlp;
use crate::output::printer::Limits;
use crate::output::{history, http, socket};

const AFTER_HELP: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not permitted or unsupported kernel.";

/// Who ended each upstream connection, why, and was a request lost.
#[derive(Debug, Parser)]
#[command(name = "rstrace", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub global: Global,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// What to log on standard error: error, warn, info, debug, trace or off
    #[arg(long, value_name = "LEVEL", global = true, env = "RSTRACE_LOG", default_value = "warn")]
    pub log: LogLevel,

    /// Also log what the kernel programs say of themselves
    #[arg(long, global = true)]
    pub debug_programs: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: metrics over HTTP, live verdicts on a unix socket
    Agent(AgentArgs),
    /// Show live verdicts, one line each
    Watch(WatchArgs),
    /// Show which upstreams lose requests, on a screen that refreshes, from the running agent
    Top(TopArgs),
    /// Say on one page what was lost, why, what it has in common, and what to do
    Report(ReportArgs),
    /// Write what the kernel says to a file, from which `replay` gives the same verdicts
    Record(RecordArgs),
    /// Show the verdicts of a recording
    Replay(ReplayArgs),
    /// Say what a cause means, or what really happened to each failure in a proxy's log
    Explain(ExplainArgs),
    /// Say what this kernel supports, what is missing, and what is lost without it
    Doctor(DoctorArgs),
    /// Break a few connections on loopback and show a verdict for each
    Demo(DemoArgs),
    /// Print the script that completes rstrace's words in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command into a folder
    Man(ManArgs),
    /// One of the processes of `rstrace demo`
    #[command(hide = true)]
    DemoPart(DemoPartArgs),
}

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDR:PORT", env = "RSTRACE_LISTEN", default_value_t = http::DEFAULT_LISTEN,
          value_parser = listen_address)]
    pub listen: SocketAddr,

    /// Where to answer `rstrace watch`
    #[arg(long, value_name = "PATH", env = "RSTRACE_SOCKET", default_value = socket::DEFAULT_PATH)]
    pub socket: PathBuf,

    /// Also serve a web page that shows the verdicts live, such as on 127.0.0.1:19436; anywhere but on loopback it
    /// asks for a token
    #[arg(long, value_name = "ADDR:PORT", env = "RSTRACE_WEB", value_parser = listen_address)]
    pub web: Option<SocketAddr>,

    /// File with the token that the web page asks for; without one, a new token is logged at the start where one is
    /// needed
    #[arg(long, value_name = "FILE", env = "RSTRACE_WEB_TOKEN_FILE", requires = "web")]
    pub web_token_file: Option<PathBuf>,

    /// Also show live verdicts on standard output
    #[arg(long)]
    pub watch: bool,

    /// With --watch: JSON lines
    #[arg(long, requires = "watch")]
    pub json: bool,

    /// With --watch: also what harmed nobody
    #[arg(long, requires = "watch")]
    pub all: bool,

    /// Treat this process as a gateway, by its command, cgroup or listening port; may be repeated
    #[arg(long, value_name = "COMM|CGROUP|PORT")]
    pub gateway: Vec<GatewayFilter>,

    /// How many of the last verdicts to keep in memory for whoever asks later; 0 for none
    #[arg(long, value_name = "N", default_value_t = history::DEFAULT_CAPACITY)]
    pub history: usize,

    #[command(flatten)]
    pub journal: JournalArgs,

    /// Also send the verdicts as OpenTelemetry logs to the collector at this URL, such as http://127.0.0.1:4318
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", env = "RSTRACE_OTLP")]
    pub otlp: Option<otlp::Endpoint>,

    #[command(flatten)]
    pub names: NamesArgs,

    #[command(flatten)]
    pub kubernetes: KubernetesArgs,

    #[command(flatten)]
    pub with: WithArgs,
}

/// Whether an API server is asked for names.
#[derive(Debug, Args)]
pub struct KubernetesArgs {
    /// Name upstreams by Service and pod, from a watch on the API server of Kubernetes (needs a build with the feature
    /// `kubernetes`)
    #[arg(long, env = "RSTRACE_KUBERNETES")]
    pub kubernetes: bool,

    /// With --kubernetes: what this node is called there; without it, the name of this host
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node: Option<String>,
}

/// Where names come from.
#[derive(Debug, Args)]
pub struct NamesArgs {
    /// Where the kubelet of this node keeps the logs of pods: the names of its directories give those of pods
    #[arg(long, value_name = "DIR", env = "RSTRACE_POD_LOGS", default_value = pods::DEFAULT_LOGS)]
    pod_logs: PathBuf,
}

/// The optional groups of hooks.
#[derive(Debug, Default, Args)]
pub struct WithArgs {
    /// Optional groups of hooks, which cost more than the others: unix, dns, connect-errors or all (`rstrace
    /// doctor` describes them)
    #[arg(long = "with", value_name = "GROUPS", value_delimiter = ',')]
    groups: Vec<Groups>,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// JSON lines, the first of them `ready`
    #[arg(long)]
    pub json: bool,

    /// See sockets and processes of this network namespace only, as if all else were on other machines
    /// (loads the programs itself, without a running agent)
    #[arg(long, value_name = "PATH|INUM")]
    pub vantage: Option<Netns>,

    /// Also record the run to a file, for `rstrace replay` (loads the programs itself, without a running agent)
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// End after so many verdicts
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,

    /// End after this time, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,

    /// Socket of the running agent; where none listens, this command loads the programs itself
    #[arg(long, value_name = "PATH", env = "RSTRACE_SOCKET", default_value = socket::DEFAULT_PATH)]
    pub socket: PathBuf,

    #[command(flatten)]
    pub names: NamesArgs,

    #[command(flatten)]
    pub with: WithArgs,

    // Last, since its heading stands above whatever follows.
    #[command(flatten)]
    pub filter: FilterArgs,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,

    /// Socket of the running agent, which says whether it has missed anything
    #[arg(long, value_name = "PATH", env = "RSTRACE_SOCKET", default_value = socket::DEFAULT_PATH)]
    pub socket: PathBuf,
}

#[derive(Debug, Args)]
pub struct DemoArgs {}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that is to read it
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder instead
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DemoPartArgs {
    #[command(subcommand)]
    pub part: DemoPart,
}

/// What a process of the demo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum DemoPart {
    /// Serves one connection on loopback and ends it in one way
    Serve { ending: Ending },
    /// Kills a process
    Kill { pid: u32 },
}

/// How a server of the demo ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ending {
    /// Leaves its port before anyone connects.
    Leave,
    /// Waits to be killed.
    Wait,
    Exit,
    Close,
    Reset,
    CloseUnread,
    ResetHalfway,
}

/// A network namespace, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Netns {
    Inum(u32),
    Path(PathBuf),
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub Option<tracing::Level>);

/// A word that cannot be read; clap says where it stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("give an address and a port, such as 127.0.0.1:19435 or [::1]:19435")]
    Listen,
    #[error("give a positive time with its unit, such as 30s, 5m or 1h30m")]
    Duration,
    #[error("give a file such as /run/netns/web or /proc/812/ns/net, or an inode number such as 4026531840")]
    Netns,
    #[error("give a time such as 15m (ago), 12:03, 2026-11-20T12:03 or 2026-11-20T12:03:07Z")]
    When,
    #[error("give a size of at least 64KiB, such as 64MiB or 1GiB")]
    Size,
    #[error("give the id of a container, or how it begins")]
    Container,
    #[error("give a pod as shop/api-66b6c48dd5-gz5nx or api-66b6c48dd5-gz5nx, or how that begins")]
    Pod,
    #[error("one of error, warn, info, debug, trace, off")]
    LogLevel,
}

// === impl NamesArgs, WithArgs, WatchArgs ===

impl NamesArgs {
    /// What was named.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::of_files(self.pod_logs.clone())
    }
}

impl WithArgs {
    /// All that were asked for.
    #[must_use]
    pub fn groups(&self) -> Groups {
        self.groups.iter().copied().collect()
    }
}

impl WatchArgs {
    /// When to stop; `until` is how long it is until the end of `--until`.
    #[must_use]
    pub fn limits(&self, until: Option<SignedDuration>) -> Limits {
        // What lies in the past has an end of its own.
        let until = until.and_then(|until| Duration::try_from(until).ok()).filter(|until| !until.is_zero());
        let duration = [self.duration, until].into_iter().flatten().min();
        Limits { count: self.count.map(NonZeroU64::get), duration }
    }
}

// === reading words ===

impl FromStr for Netns {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        if text.contains('/') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        match text.parse() {
            Ok(inum) if inum > 0 => Ok(Self::Inum(inum)),
            _ => Err(WordError::Netns),
        }
    }
}

impl FromStr for LogLevel {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Ok(Self(Some(match text {
            "off" => return Ok(Self(None)),
            "error" => tracing::Level::ERROR,
            "warn" => tracing::Level::WARN,
            "info" => tracing::Level::INFO,
            "debug" => tracing::Level::DEBUG,
            "trace" => tracing::Level::TRACE,
            _ => return Err(WordError::LogLevel),
        })))
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, WordError> {
    // `:9100` is what every other exporter takes for "all addresses".
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| WordError::Listen)?;
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    text.parse().map_err(|_| WordError::Listen)
}

fn duration(text: &str) -> Result<Duration, WordError> {
    let duration = text.parse::<SignedDuration>().map_err(|_| WordError::Duration)?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(WordError::Duration),
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
