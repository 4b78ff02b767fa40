//! What a gateway's configuration says of one of its upstream servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::event::Target;

/// A gateway whose configuration can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    Nginx,
    Haproxy,
    Envoy,
}

/// Whether the gateway sends requests there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    /// Only if the others fail.
    Backup,
    /// Taken out: `down` in nginx's words, unhealthy in Envoy's.
    Down,
    /// Taken out: `disabled` in HAProxy's words.
    Disabled,
}

/// Where and as what a server is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub gateway: Proxy,
    /// `api` (an upstream block of nginx, a cluster of Envoy), `api/web-1` (a backend and server of HAProxy); null if
    /// the address itself stands where the gateway passes requests on.
    pub name: Option<String>,
    /// As configured; null if it is not said.
    pub weight: Option<u32>,
    pub state: State,
    /// The file as the gateway's processes see it, or the address of Envoy's admin endpoint.
    pub file: String,
    /// From 1; null if it was no file.
    pub line: Option<u32>,
}

/// A server and all that is configured of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: Address,
    pub registration: Registration,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// Path of a Unix socket; `@name` is an abstract one.
    Unix(String),
    /// Both addresses of loopback, at this port.
    Localhost(u16),
    /// A name that the gateway resolves, which is not known here.
    Host(String),
}

// === impl Proxy ===

impl Proxy {
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Envoy];

    /// The name of its processes.
    #[must_use]
    pub fn comm(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// The one whose processes have this name.
    #[must_use]
    pub fn of_comm(comm: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|proxy| proxy.comm() == comm)
    }
}

// === impl State ===

impl State {
    /// Whether the gateway may send requests there.
    #[must_use]
    pub fn is_used(self) -> bool {
        matches!(self, Self::Active | Self::Backup)
    }
}

// === impl Registration ===

impl Registration {
    /// `server 10.0.3.7:9000 of upstream api in /etc/nginx/conf.d/api.conf:12`.
    #[must_use]
    pub fn words(&self, address: &str) -> String {
        let group = match self.gateway {
            Proxy::Nginx => "upstream",
            Proxy::Haproxy => "backend",
            Proxy::Envoy => "cluster",
        };
        let of = match self.name.as_deref() {
            None => format!("{address} stands"),
            Some(name) => match name.split_once('/').filter(|_| self.gateway == Proxy::Haproxy) {
                Some((backend, server)) => format!("it is server {server} ({address}) of {group} {backend}"),
                None => format!("it is server {address} of {group} {name}"),
            },
        };
        let line = self.line.map_or_else(String::new, |line| format!(":{line}"));
        format!("{of} in {}{line}", self.file)
    }
}

// === impl Address ===

impl Address {
    /// `10.0.3.7:9000`, `[::1]:80`, `web:80`, `10.0.3.7`: without a port it is `port`. None: no address, or no port.
    #[must_use]
    pub fn parse(text: &str, port: Option<u16>) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Tcp(address));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            return port.map(|port| Self::Tcp(SocketAddr::new(ip, port)));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, number)) => (host, Some(number.parse().ok()?)),
            None => (text, port),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = port.is_some() && !host.is_empty() && host.bytes().all(is_host);
        if host == "localhost" {
            return port.map(Self::Localhost);
        }
        is_name.then(|| Self::Host(host.to_ascii_lowercase()))
    }

    /// As verdicts name it.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let tcp = |ip: IpAddr, port: u16| Target::Tcp(SocketAddr::new(ip, port));
        match self {
            Self::Tcp(address) => vec![Target::Tcp(*address)],
            Self::Unix(path) => vec![Target::Unix(path.clone())],
            Self::Localhost(port) => {
                vec![tcp(Ipv4Addr::LOCALHOST.into(), *port), tcp(Ipv6Addr::LOCALHOST.into(), *port)]
            }
            Self::Host(name) => vec![Target::Dns(name.clone())],
        }
    }
}
