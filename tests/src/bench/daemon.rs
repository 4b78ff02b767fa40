//! The agent as an operator runs it, with nobody watching, and what its process costs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::agent::{binary, free_port};
use crate::process::{Guarded, poll};
use crate::scrape::{Scrape, get};

/// With 100,000 sockets to read and a busy machine.
const READY: Duration = Duration::from_secs(60);

/// `rstrace agent`, running.
#[derive(Debug)]
pub struct Daemon {
    process: Guarded,
    folder: TempDir,
    listen: std::net::SocketAddr,
    /// From its start until it said that it was ready.
    pub start_up: Duration,
}

/// Resident memory, in kB, as `/proc/PID/status` tells it apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What it has allocated.
    pub anonymous: u64,
    /// Pages of its own file and of libraries, which others may share and the kernel may drop.
    pub file: u64,
    /// Pages of the ring buffer, where the kernel counts them.
    pub shared: u64,
}

impl Daemon {
    /// Starts it and returns once every hook is attached.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-bench-").tempdir()?;
        let listen = free_port()?;
        let mut command = Command::new(binary()?);
        command.args(["agent", "--listen", &listen.to_string(), "--socket"]);
        command.arg(folder.path().join("s.sock"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let began = Instant::now();
        let process = Guarded::spawn(&mut command)?;
        poll("the agent to be ready", READY, || {
            get(listen, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(())
        })?;
        Ok(Self { process, folder, listen, start_up: began.elapsed() })
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn scrape(&self) -> Result<Scrape> {
        Scrape::of(self.listen)
    }

    /// How long a scrape takes, and its bytes.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn scraped(&self) -> Result<(Duration, usize)> {
        let began = Instant::now();
        let (status, body) = get(self.listen, "/metrics")?;
        ensure!(status == 200, "/metrics answered {status}");
        Ok((began.elapsed(), body.len()))
    }

    /// Its time on a processor since its start, as the scheduler counts it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let folder = format!("/proc/{}/task", self.process.pid());
        let mut nanoseconds = 0;
        for task in fs::read_dir(folder).context("the agent's threads")? {
            // A thread may end in between.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanoseconds += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        memory(&status).context("the agent's status")
    }

    /// Bytes of the kernel's memory that its maps are charged with.
    ///
    /// # Errors
    /// When it has ended.
    pub fn map_bytes(&self) -> Result<u64> {
        let folder = format!("/proc/{}/fdinfo", self.process.pid());
        // Several descriptors may name one map.
        let mut maps = BTreeMap::new();
        for file in fs::read_dir(folder).context("the agent's files")? {
            let Ok(text) = fs::read_to_string(file?.path()) else { continue };
            if let (Some(id), Some(bytes)) = (field(&text, "map_id:"), field(&text, "memlock:")) {
                maps.insert(id, bytes);
            }
        }
        Ok(maps.values().sum())
    }
}

fn memory(status: &str) -> Option<Memory> {
    Some(Memory {
        anonymous: field(status, "RssAnon:")?,
        file: field(status, "RssFile:")?,
        shared: field(status, "RssShmem:")?,
    })
}

/// The number after a key at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Memory, field, memory};

    #[test]
    fn proc_is_read_by_its_keys() {
        let status =
            "VmRSS:\t 9000 kB\nRssAnon:\t    3000 kB\nRssFile:\t    5900 kB\nRssShmem:\t     100 kB\n";
        assert_eq!(memory(status), Some(Memory { anonymous: 3000, file: 5900, shared: 100 }));
        assert_eq!(memory("VmRSS:\t9000 kB\n"), None);
        assert_eq!(field("pos:\t0\nmap_id:\t7\nmemlock:\t4096\n", "memlock:"), Some(4096));
    }
}
