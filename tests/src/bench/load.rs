//! The load: nginx in front of nginx over the loopback device of an own network namespace, and wrk.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::netns::{Family, Link, Net};
use crate::nginx::Nginx;
use crate::process::{poll, run_within};

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

/// A gateway and its upstream. All four sockets of a proxied request are of this host.
#[derive(Debug)]
pub struct Stage {
    front: Nginx,
    back: Nginx,
    net: Net,
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
        let back = Nginx::start_with(net.gateway(), back_at, &back(back_at, body))?;
        let front = Nginx::start_with(net.gateway(), front_at, &front(front_at, back_at, upstream))?;
        Ok(Self { front, back, net })
    }

    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Runs wrk for so long; a request that fails is an error.
    ///
    /// # Errors
    /// When wrk cannot run, or a request has failed.
    pub fn load(&self, duration: Duration) -> Result<Done> {
        let mut wrk = self.net.gateway().command("wrk")?;
        wrk.args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{}s", duration.as_secs().max(1))]);
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

    fn cpu_seconds(&self) -> Result<f64> {
        let pids = self.front.worker_pids().iter().chain(self.back.worker_pids());
        pids.map(|pid| on_processor(*pid)).sum()
    }
}

/// Seconds that a process of one thread has been on a processor, to the nanosecond where `utime` and `stime` count
/// ticks.
fn on_processor(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).context("read schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse().context("read schedstat")?;
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

fn back(address: SocketAddr, body: usize) -> String {
    let body = "x".repeat(body);
    format!("access_log off; server {{ listen {address}; location / {{ return 200 \"{body}\"; }} }}")
}

fn front(address: SocketAddr, back: SocketAddr, upstream: Upstream) -> String {
    let (pool, protocol) = match upstream {
        Upstream::New => ("", ""),
        Upstream::Kept => ("keepalive 64;", "proxy_http_version 1.1; proxy_set_header Connection \"\";"),
    };
    format!(
        "access_log off; upstream measured {{ server {back} max_fails=0; {pool} }}\n\
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
