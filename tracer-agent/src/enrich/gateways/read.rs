//! One gateway that runs, and what was read of it last.

use std::io;
use std::time::{Duration, Instant};

use super::files::Root;
use super::known::GatewayReport;
use super::processes::{Process, command_line, folder, netns};
use super::reading::{self, Configuration};
use super::registration::{Address, Proxy};
use super::{admin, envoy};

/// Between two questions to Envoy, and after one that it did not answer.
const ASK: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(120);

/// What was read.
pub struct Read {
    pub configuration: Configuration,
    netns: u32,
    /// The process through whose root the files are seen: its parent's, if it has left them behind (chroot).
    seen_by: u32,
    /// When Envoy is to be asked again.
    ask_at: Option<Instant>,
}

// === impl Read ===

impl Read {
    /// Reads the configuration of a gateway.
    pub fn new(process: &Process, last: Option<&Self>) -> Self {
        let read = |pid| with_the_eyes_of(pid, process, last);
        let (seen_by, seen) = match read(process.pid) {
            // It has changed its root, as HAProxy does; who started it has not.
            Ok(seen) if seen.0.files.is_empty() && process.parent != 0 => match read(process.parent) {
                Ok(parents) if !parents.0.files.is_empty() => (process.parent, Ok(parents)),
                _ => (process.pid, Ok(seen)),
            },
            seen => (process.pid, seen),
        };
        let netns = netns(process.pid).unwrap_or_default();
        let mut configuration = Configuration::default();
        let mut text = None;
        match seen {
            Ok(seen) => (configuration, text) = seen,
            // It has ended meanwhile, which is nobody's fault.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let pid = process.pid;
                configuration.fault(format!("/proc/{pid}/root: {error}: to look there takes CAP_SYS_PTRACE"));
            }
        }
        let mut read = Self { configuration, netns, seen_by, ask_at: None };
        if let Some(text) = text {
            read.ask_envoy(&text);
        }
        read
    }

    /// Whether nothing can have changed.
    pub fn is_fresh(&self) -> bool {
        self.ask_at.is_none_or(|at| Instant::now() < at)
            && Root::of(self.seen_by).is_ok_and(|root| self.configuration.stamps.hold(&root))
    }

    /// Whether nothing has changed.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.configuration, &other.configuration);
        a.servers == b.servers && a.files == b.files && a.faults == b.faults && self.netns == other.netns
    }

    /// How the reading went.
    pub fn report(&self, process: &Process) -> GatewayReport {
        let Configuration { servers, files, faults, left_out, .. } = &self.configuration;
        let by_host_name = servers.iter().filter(|s| matches!(s.address, Address::Host(_))).count();
        GatewayReport {
            gateway: process.proxy,
            pid: process.pid,
            netns: self.netns,
            files: files.clone(),
            servers: servers.len() - by_host_name,
            by_host_name,
            left_out: *left_out,
            faults: faults.clone(),
        }
    }

    fn ask_envoy(&mut self, text: &str) {
        let Some(endpoint) = envoy::admin_address(text) else {
            self.configuration.fault("it names no admin endpoint with an address and a port".to_owned());
            return;
        };
        if netns(std::process::id()) != Some(self.netns) {
            let why =
                "the admin endpoint is in a network namespace other than rstrace's, which cannot go there";
            self.configuration.fault(why.to_owned());
            return;
        }
        let from = format!("http://{endpoint}/clusters");
        let answer = admin::get(endpoint, "/clusters?format=json");
        match answer.and_then(|json| envoy::parse(&json, &from).map_err(io::Error::from)) {
            Ok(servers) => {
                self.configuration.servers = servers;
                self.ask_at = Some(Instant::now() + ASK);
            }
            Err(error) => {
                self.configuration.fault(format!("{from}: {error}"));
                self.ask_at = Some(Instant::now() + ASK_AGAIN);
            }
        }
    }
}

/// What is configured as the root of the process `pid` shows it, and the text of Envoy's file.
fn with_the_eyes_of(
    pid: u32,
    process: &Process,
    last: Option<&Read>,
) -> io::Result<(Configuration, Option<String>)> {
    let root = Root::of(pid)?;
    let (command, folder) = (command_line(process.pid), folder(process.pid));
    let nothing = Configuration::default();
    Ok(match process.proxy {
        Proxy::Nginx => {
            let understood = &last.map_or(&nothing, |last| &last.configuration).understood;
            (reading::of_nginx(&root, &command, &folder, understood), None)
        }
        Proxy::Haproxy => (reading::of_haproxy(&root, &command, &folder), None),
        Proxy::Envoy => reading::of_envoy(&root, &command, &folder),
    })
}
