//! Which verdicts a watcher wants to see: a pure predicate, and the words that say it on the command line.
//!
//! It travels to the agent in the request line of the socket, so that what is not wanted never leaves the
//! agent. It does not change what is judged or counted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::VerdictView;
use crate::event::{Process, Target};
use crate::verdict::{By, Cause, Impact, Verdict};

/// `TASK_COMM_LEN` of include/linux/sched.h, less the terminating zero.
const COMM_BYTES: usize = 15;

/// What has to hold of a verdict. Several values of one kind mean any of them; an empty kind means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    pub upstream: Vec<UpstreamFilter>,
    pub by: Vec<By>,
    pub cause: Vec<Cause>,
    pub impact: Vec<Impact>,
    /// Inode numbers of network namespaces.
    pub netns: Vec<u32>,
    /// The owner of the socket, or the culprit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<ProcessFilter>,
    /// The container of the owner: its whole id, or how it begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container: Vec<String>,
    /// The pod of the owner or of the culprit: `NAMESPACE/NAME`, `NAME`, or how one of them begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pod: Vec<String>,
    /// Processes that count as gateways besides those that the agent knows: their own closes are news too.
    pub gateway: Vec<GatewayFilter>,
    /// Also what harmed nobody.
    pub all: bool,
}

/// Which upstreams are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamFilter {
    Addresses(Addresses),
    /// Exactly this path (`unix:/path`, `unix:@name`) or name (`dns:name`).
    Exactly(Target),
}

/// `ADDR`, `ADDR:PORT` or `ADDR/PREFIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    address: IpAddr,
    /// Leading bits of `address` that count.
    prefix: u8,
    port: Option<u16>,
}

/// Names a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessFilter {
    /// As `ps` shows it.
    Comm(String),
    Pid(u32),
}

/// Names a process as a gateway, by what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayFilter {
    /// Its name, as `ps` shows it.
    Comm(String),
    /// Its cgroup, or one above it.
    Cgroup(String),
    /// A port on which it, or its parent, listens.
    Port(u16),
}

/// What does not say an upstream or a gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error(
        "`{0}` is no upstream: 10.0.3.7, 10.0.3.7:9000, [::1]:9000, 10.0.0.0/8, unix:/run/api.sock and dns:api.example are"
    )]
    Upstream(String),
    #[error("`{text}`: a prefix of {address} has at most {bits} bits")]
    Prefix { text: String, address: IpAddr, bits: u8 },
    #[error(
        "a gateway is named by its command (nginx), its cgroup (/system.slice/nginx.service) or a port (8080)"
    )]
    Gateway,
    #[error("a process is named by its command (php-fpm) or its pid (4242)")]
    Process,
    #[error("`{0}` is longer than a command name, which the kernel cuts after 15 bytes")]
    LongComm(String),
}

// === impl Filter ===

impl Filter {
    /// Whether a watcher with this filter sees that verdict.
    #[must_use]
    pub fn shows(&self, verdict: &Verdict, view: &VerdictView) -> bool {
        (self.all || self.is_news(verdict, view)) && self.matches(view)
    }

    /// The same of a verdict that is news or that everybody wants.
    #[must_use]
    pub fn matches(&self, view: &VerdictView) -> bool {
        any_or_none(&self.by, |by| *by == view.by)
            && any_or_none(&self.cause, |cause| *cause == view.cause)
            && any_or_none(&self.impact, |impact| *impact == view.impact)
            && any_or_none(&self.netns, |netns| *netns == view.netns)
            && any_or_none(&self.process, |process| process.names_one_of(view))
            && any_or_none(&self.container, |container| view.is_of_container(container))
            && any_or_none(&self.pod, |pod| view.pods().any(|of| of.begins_with(pod)))
            && (self.upstream.is_empty() || self.holds_upstream(view))
    }

    /// Whether [`Filter::matches`] is true of everything.
    #[must_use]
    pub fn takes_everything(&self) -> bool {
        let Self { upstream, by, cause, impact, netns, process, container, pod, gateway: _, all: _ } = self;
        upstream.is_empty()
            && by.is_empty()
            && cause.is_empty()
            && impact.is_empty()
            && netns.is_empty()
            && process.is_empty()
            && container.is_empty()
            && pod.is_empty()
    }

    /// What it says of who had the connection, and nothing of what became of it.
    #[must_use]
    pub fn of_whom(&self) -> Self {
        Self {
            netns: self.netns.clone(),
            process: self.process.clone(),
            container: self.container.clone(),
            pod: self.pod.clone(),
            ..Self::default()
        }
    }

    fn holds_upstream(&self, view: &VerdictView) -> bool {
        let upstream = view.upstream.as_deref().and_then(|text| text.parse::<Target>().ok());
        upstream.is_some_and(|upstream| self.upstream.iter().any(|wanted| wanted.holds(&upstream)))
    }

    fn is_news(&self, verdict: &Verdict, view: &VerdictView) -> bool {
        if verdict.is_news() {
            return true;
        }
        // What a plain client did itself is no news, unless it is named as a gateway.
        let Some(owner) = &verdict.owner else { return false };
        let cgroup = view.owner.as_ref().and_then(|o| o.cgroup.as_deref());
        !verdict.gateway
            && self.gateway.iter().any(|g| g.names(owner, cgroup, &verdict.owner_listens))
            && Verdict { gateway: true, ..verdict.clone() }.is_news()
    }
}

fn any_or_none<T>(wanted: &[T], matches: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

// === impl UpstreamFilter, Addresses ===

impl UpstreamFilter {
    /// Whether that upstream is meant.
    #[must_use]
    pub fn holds(&self, upstream: &Target) -> bool {
        match (self, upstream) {
            (Self::Addresses(addresses), Target::Tcp(address)) => addresses.hold(*address),
            (Self::Addresses(_), _) => false,
            (Self::Exactly(wanted), _) => wanted == upstream,
        }
    }
}

impl Addresses {
    fn hold(&self, upstream: SocketAddr) -> bool {
        let address = upstream.ip().to_canonical();
        self.port.is_none_or(|port| port == upstream.port())
            && width(address) == width(self.address)
            && masked(address, self.prefix) == masked(self.address, self.prefix)
    }

    fn whole(address: IpAddr, port: Option<u16>) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: width(address), port }
    }
}

impl From<SocketAddr> for UpstreamFilter {
    fn from(upstream: SocketAddr) -> Self {
        Self::Addresses(Addresses::whole(upstream.ip(), Some(upstream.port())))
    }
}

impl FromStr for UpstreamFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text.parse() {
            Ok(target @ (Target::Unix(_) | Target::Dns(_))) => Ok(Self::Exactly(target)),
            Ok(Target::Tcp(_)) | Err(_) => text.parse().map(Self::Addresses),
        }
    }
}

impl FromStr for Addresses {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let unreadable = || FilterError::Upstream(text.escape_debug().take(80).collect());
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::whole(socket.ip(), Some(socket.port())));
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::whole(address, None));
        }
        let (address, prefix) = text.split_once('/').ok_or_else(unreadable)?;
        let address = address.parse::<IpAddr>().map_err(|_| unreadable())?;
        let prefix = prefix.parse::<u16>().map_err(|_| unreadable())?;
        let bits = width(address);
        match u8::try_from(prefix) {
            Ok(prefix) if prefix <= bits => Ok(Self { address: masked(address, prefix), prefix, port: None }),
            _ => Err(FilterError::Prefix { text: text.to_owned(), address, bits }),
        }
    }
}

impl fmt::Display for UpstreamFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => addresses.fmt(f),
            Self::Exactly(target) => target.fmt(f),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None if self.prefix == width(self.address) => self.address.fmt(f),
            None => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

// === impl ProcessFilter ===

impl ProcessFilter {
    fn names_one_of(&self, view: &VerdictView) -> bool {
        let owner = view.owner.as_ref().map(|owner| (owner.pid, owner.comm.as_str()));
        let culprit = view.culprit.as_ref().map(|culprit| (culprit.pid, culprit.comm.as_str()));
        [owner, culprit].into_iter().flatten().any(|(pid, comm)| match self {
            Self::Comm(wanted) => wanted == comm,
            Self::Pid(wanted) => *wanted == pid,
        })
    }
}

impl FromStr for ProcessFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match number(text) {
            Some(pid) => pid.map(Self::Pid).ok_or(FilterError::Process),
            None => comm(text, FilterError::Process).map(Self::Comm),
        }
    }
}

impl fmt::Display for ProcessFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comm(comm) => comm.fmt(f),
            Self::Pid(pid) => pid.fmt(f),
        }
    }
}

// === impl GatewayFilter ===

impl GatewayFilter {
    /// Whether that process is meant; `listens` are the ports on which it listens.
    #[must_use]
    pub fn names(&self, process: &Process, cgroup: Option<&str>, listens: &[u16]) -> bool {
        match self {
            Self::Comm(comm) => process.comm == *comm,
            Self::Cgroup(wanted) => cgroup.is_some_and(|path| {
                path.strip_prefix(wanted.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
            Self::Port(port) => listens.contains(port),
        }
    }
}

impl FromStr for GatewayFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.starts_with('/') {
            return Ok(Self::Cgroup(text.trim_end_matches('/').to_owned()));
        }
        match number(text) {
            Some(port) => port.map(Self::Port).ok_or(FilterError::Gateway),
            None => comm(text, FilterError::Gateway).map(Self::Comm),
        }
    }
}

impl fmt::Display for GatewayFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comm(comm) => comm.fmt(f),
            Self::Cgroup(path) if path.is_empty() => "/".fmt(f),
            Self::Cgroup(path) => path.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

/// A word of digits alone: the number that it says, or None within if there is no such one.
fn number<N: FromStr + Default + PartialOrd>(text: &str) -> Option<Option<N>> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok().filter(|number| *number > N::default()))
}

/// The name of a command; `missing` is the error where there is none.
fn comm(text: &str, missing: FilterError) -> Result<String, FilterError> {
    match text.len() {
        0 => Err(missing),
        1..=COMM_BYTES => Ok(text.to_owned()),
        _ => Err(FilterError::LongComm(text.escape_debug().take(80).collect())),
    }
}

// In JSON they are the words of the command line.
macro_rules! as_text {
    ($($type:ident),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

as_text!(UpstreamFilter, ProcessFilter, GatewayFilter);

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
