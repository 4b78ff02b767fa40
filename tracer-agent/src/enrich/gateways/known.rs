//! All servers that are configured on this host, by their addresses.

use std::collections::HashMap;

use serde::Serialize;

use super::registration::{Proxy, Registration, Server};
use crate::event::Target;

/// Servers of all gateways together.
pub const SERVERS: usize = 50_000;
/// Names of one address that are told.
const NAMES: usize = 3;

/// What is known of the gateways that run.
#[derive(Clone, Debug, Default)]
pub struct Known {
    servers: HashMap<(u32, Target), Vec<Registration>>,
    count: usize,
    pub gateways: Vec<GatewayReport>,
    /// What found no place, in here or when it was read.
    pub left_out: u64,
}

/// One gateway, and how the reading of its configuration went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayReport {
    pub gateway: Proxy,
    pub pid: u32,
    /// Inode number of its network namespace.
    pub netns: u32,
    pub files: Vec<String>,
    /// Servers that are known by their address.
    pub servers: usize,
    /// Servers that stand there by a name which the gateway resolves: not known by their address.
    pub by_host_name: usize,
    pub left_out: u64,
    pub faults: Vec<String>,
}

// === impl Known ===

impl Known {
    /// Nothing but gateways that are too many to be read.
    #[must_use]
    pub fn new(left_out: u64) -> Self {
        Self { left_out, ..Self::default() }
    }

    /// Adds what a gateway in this network namespace is configured to do.
    pub fn add<'a>(&mut self, report: GatewayReport, servers: impl Iterator<Item = &'a Server>) {
        let netns = report.netns;
        self.left_out += report.left_out;
        self.gateways.push(report);
        for Server { address, registration } in servers {
            for target in address.targets() {
                self.insert(netns, target, registration);
            }
        }
    }

    fn insert(&mut self, netns: u32, target: Target, registration: &Registration) {
        if self.count >= SERVERS {
            self.left_out += 1;
            return;
        }
        let known = self.servers.entry((netns, target)).or_default();
        if !known.contains(registration) {
            known.push(registration.clone());
            self.count += 1;
        }
    }

    /// What is configured of a target in this network namespace, by gateways of the dialler's sort if there are such.
    /// Where several names stand for one address, all are told, and the rest is the first's that is used.
    #[must_use]
    pub fn find(&self, target: &Target, netns: u32, comm: Option<&str>) -> Option<Registration> {
        let all = self.servers.get(&(netns, target.clone()))?;
        let own = |r: &&Registration| comm == Some(r.gateway.comm());
        let mut found: Vec<_> = all.iter().filter(own).collect();
        if found.is_empty() {
            found = all.iter().collect();
        }
        // Used before unused, named before unnamed; else in the order of the files.
        found.sort_by_key(|r| (!r.state.is_used(), r.name.is_none()));
        let mut names: Vec<&str> = Vec::new();
        for name in found.iter().filter_map(|r| r.name.as_deref()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > NAMES {
            names.truncate(NAMES);
            names.push("…");
        }
        let first = (*found.first()?).clone();
        Some(Registration { name: (!names.is_empty()).then(|| names.join(", ")), ..first })
    }

    /// Addresses and paths of all servers, as the outputs spell them.
    pub fn upstreams(&self) -> impl Iterator<Item = String> {
        self.servers.keys().map(|(_, target)| target.to_string())
    }

    /// How many servers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
