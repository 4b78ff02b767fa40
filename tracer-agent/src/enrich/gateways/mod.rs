//! The names of upstreams: what the gateways of this host are configured to do.
//!
//! A thread of its own finds nginx, HAProxy and Envoy in /proc, reads their configuration as their processes see it, and
//! reads it again when it changes. Nothing is executed, and nothing waits for it: whoever asks gets what is known.
//! `registration` has the words, `nginx`, `haproxy` and `envoy` take text apart, `files` and `admin` fetch it.

mod admin;
mod envoy;
mod files;
pub mod haproxy;
mod known;
pub mod nginx;
mod processes;
mod read;
mod reading;
mod registration;
mod watching;

pub use envoy::{admin_address as envoy_admin_address, parse as parse_envoy};
pub use known::{GatewayReport, Known, SERVERS};
pub use registration::{Address, Proxy, Registration, Server, State};
pub use watching::{Gateways, look_once};

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: u32,
    pub why: String,
}
