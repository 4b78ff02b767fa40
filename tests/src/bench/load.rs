//! The load: nginx in front of nginx over the loopback device of an own network namespace, and wrk.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::netns::{Family, Link, Net};
use crate::nginx::Nginx;
use crate::process::{poll, run, run_within};

/// How the gateway speaks to its upstream. Clients keep their connections either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// A new connection for each request, which the upstream closes.
    New,
    /// Connections that stay.
    Kept,
}

impl Upstream {
    pub const BOTH: [Self; 2] = [Self::New, Self::Kept];

    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new connections",
            Self::Kept => "keep-alive",
        }
    }
}

/// Clients at once: enough to keep two cores busy, too few to queue for long.
const CONNECTIONS: &str = "16";

/// Of the upstream and of wrk, which have less to do than the gateway.
const CLIENT_CORE: usize = 0;

/// Longer bodies do not fit into nginx's configuration.
const INLINE: usize = 2000;

/// A gateway and its upstream, each on a core of its own where there are two: where the scheduler puts them by chance
/// would otherwise decide more than what is measured. All four sockets of a proxied request are of this host.
#[derive(Debug)]
pub struct Stage {
    front: Nginx,
    back: Nginx,
    net: Net,
    /// What the upstream serves.
    _files: TempDir,
}

/// What one run of wrk has done, and what it took.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub requests: f64,
    pub per_second: f64,
    /// On a processor, the softirqs that came over them included: both nginx.
    pub cpu_seconds: f64,
}

impl Stage {
    /// Starts both nginx; the upstream answers with `body` bytes.
    ///
    /// # Errors
    /// When one does not start.
    pub fn set(upstream: Upstream, body: usize) -> Result<Self> {
        let net = Net::create(Link::Loopback, Family::V4)?;
        // Connections that wait in TIME_WAIT hold their ports for a minute.
        net.gateway().enter(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"))??;
        let [front_at, back_at]: [SocketAddr; 2] =
            [80, 81].map(|port| SocketAddr::new(net.gateway_ip(), port));
        let files = tempfile::Builder::new().prefix("rstrace-bench-").tempdir()?;
        fs::write(files.path().join("index.html"), "x".repeat(body))?;
        let back = Nginx::start_with(net.gateway(), back_at, &back(back_at, body, files.path()))?;
        let front = Nginx::start_with(net.gateway(), front_at, &front(front_at, back_at, upstream))?;
        let gateway_core = std::thread::available_parallelism().map_or(0, |cores| cores.get().min(2) - 1);
        pin(front.worker_pids(), gateway_core)?;
        pin(back.worker_pids(), CLIENT_CORE)?;
        Ok(Self { front, back, net, _files: files })
    }

    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Moves the gateway to the core of all others: nothing that a program stores for a socket then moves between two
    /// caches.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn share_one_core(&self) -> Result<()> {
        pin(self.front.worker_pids(), CLIENT_CORE)
    }

    /// Runs wrk for so long; a request that fails is an error.
    ///
    /// # Errors
    /// When wrk cannot run, or a request has failed.
    pub fn load(&self, duration: Duration) -> Result<Done> {
        let mut wrk = self.net.gateway().command("taskset")?;
        wrk.args([
            "-c",
            &CLIENT_CORE.to_string(),
            "wrk",
            "-t",
            "1",
            "-c",
            CONNECTIONS,
            "-d",
            &format!("{}s", duration.as_secs().max(1)),
        ]);
        wrk.arg(self.front.url("/"));
        let before = self.cpu_seconds()?;
        let ended = run_within(&mut wrk, duration + Duration::from_secs(20))?;
        let cpu_seconds = self.cpu_seconds()? - before;
        ensure!(ended.code == Some(0), "wrk: {}{}", ended.stdout, ended.stderr);
        let (requests, per_second) =
            said_by_wrk(&ended.stdout).with_context(|| format!("wrk said {}", ended.stdout))?;
        Ok(Done { requests, per_second, cpu_seconds })
    }

    /// Waits until no connection to the upstream is left but those that are kept.
    ///
    /// # Errors
    /// When there still are some after 10 s.
    pub fn settle(&self) -> Result<()> {
        poll("the end of the clients' connections", Duration::from_secs(10), || {
            let mut ss = self.net.gateway().command("ss").ok()?;
            let output = ss.args(["-Htn", "state", "established", "sport = :80"]).output().ok()?;
            (output.status.success() && output.stdout.is_empty()).then_some(())
        })
    }

    /// How long both nginx have been on a processor.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let pids = self.front.worker_pids().iter().chain(self.back.worker_pids());
        pids.map(|pid| on_processor(*pid)).sum()
    }
}

fn pin(pids: &[u32], core: usize) -> Result<()> {
    pids.iter().try_for_each(|pid| {
        run(Command::new("taskset").args(["-c", "-p", &core.to_string(), &pid.to_string()]))
    })
}

/// Seconds that the threads of a process have been on a processor, to the nanosecond where `utime` and `stime` count
/// ticks. Threads that have ended are forgotten.
///
/// # Errors
/// When there is no such process.
pub fn on_processor(pid: u32) -> Result<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("list the threads")?;
    let mut nanoseconds = 0.0;
    for thread in threads {
        // A thread may end between the two readings.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<f64>().context("schedstat")?;
    }
    Ok(nanoseconds / 1e9)
}

/// Requests, and requests per second.
fn said_by_wrk(text: &str) -> Result<(f64, f64)> {
    if let Some(line) = text.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx")) {
        bail!("requests have failed: {}", line.trim());
    }
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    let requests = requests.context("no number of requests")?.0.parse()?;
    Ok((requests, rate.context("no requests per second")?.trim().parse()?))
}

/// Short answers come with their header in one segment; files do not.
fn back(address: SocketAddr, body: usize, files: &Path) -> String {
    let answer = if body <= INLINE {
        format!("return 200 \"{}\";", "x".repeat(body))
    } else {
        format!("root {};", files.display())
    };
    format!(
        "access_log off; open_file_cache max=8; sendfile on; server {{ listen {address}; location / {{ {answer} }} }}"
    )
}

fn front(address: SocketAddr, back: SocketAddr, upstream: Upstream) -> String {
    let (pool, protocol) = match upstream {
        Upstream::New => ("", ""),
        Upstream::Kept => ("keepalive 64;", "proxy_http_version 1.1; proxy_set_header Connection \"\";"),
    };
    format!(
        "access_log off; proxy_max_temp_file_size 0; upstream measured {{ server {back} max_fails=0; {pool} }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://measured; {protocol} }} }}"
    )
}

#[cfg(test)]
mod tests {
    use super::said_by_wrk;

    #[test]
    fn a_run_of_wrk_is_read_and_one_with_failures_is_none() {
        let text = "Running 1s test\n  16 connections\n  20391 requests in 1.10s, 3.1MB read\nRequests/sec:  18537.4\n";
        assert_eq!(said_by_wrk(text).unwrap(), (20391.0, 18537.4));
        let failed = format!("{text}  Socket errors: connect 0, read 3, write 0, timeout 0\n");
        assert!(said_by_wrk(&failed).unwrap_err().to_string().contains("read 3"));
        assert!(said_by_wrk(&format!("{text}  Non-2xx or 3xx responses: 1\n")).is_err());
    }
}
