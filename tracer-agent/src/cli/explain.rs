//! `rstrace explain`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::FilterArgs;
use crate::output::socket;
use crate::proxy_log::{Format, LogFormat};

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A cause, as verdicts name it, such as oom_killed, or the connection.cookie of a verdict that the agent has
    /// kept; without it, and without a log, all causes are listed
    #[arg(value_name = "CAUSE|COOKIE", conflicts_with = "proxy_log")]
    pub what: Option<String>,

    /// Say for each failed upstream in nginx's error log what really happened; `-` is standard input
    #[arg(long, value_name = "FILE", group = "proxy_log")]
    pub nginx_error_log: Option<PathBuf>,

    /// The same for nginx's access log: its failed upstreams, if it has $upstream_addr, else its 502s and 504s by
    /// their time alone
    #[arg(long, value_name = "FILE", group = "proxy_log")]
    pub nginx_access_log: Option<PathBuf>,

    /// The log_format of that access log, as in nginx's configuration; not needed for the combined format, JSON and
    /// name=value
    #[arg(long, value_name = "FORMAT", requires = "nginx_access_log")]
    pub log_format: Option<LogFormat>,

    /// The same for HAProxy's log (option httplog or tcplog)
    #[arg(long, value_name = "FILE", group = "proxy_log")]
    pub haproxy_log: Option<PathBuf>,

    /// JSON lines
    #[arg(long)]
    pub json: bool,

    /// Socket of the running agent, whose verdicts are asked for
    #[arg(long, value_name = "PATH", env = "RSTRACE_SOCKET", default_value = socket::DEFAULT_PATH)]
    pub socket: PathBuf,

    // Last, since its heading stands above whatever follows.
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl ExplainArgs {
    /// The log that was named, and what it is; `-` is standard input.
    #[must_use]
    pub fn log(&self) -> Option<(Format, &Path)> {
        let error = self.nginx_error_log.as_deref().map(|path| (Format::NginxError, path));
        let access = self.nginx_access_log.as_deref();
        let access = access.map(|path| (Format::NginxAccess(self.log_format.clone()), path));
        let haproxy = self.haproxy_log.as_deref().map(|path| (Format::HaProxy, path));
        error.or(access).or(haproxy)
    }
}
