//! The faults: each takes an address, breaks one connection there and tells who took part.
//! What must be said of them is elsewhere (`expect.rs`).

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use rstrace_tests::cgroup::MemoryCgroup;

use crate::gateway::Leg;
use crate::upstream::Upstream;

const MEMORY_LIMIT: u64 = 64 << 20;

/// The processes, besides this one, that a verdict may name. A server that survived its fault must
/// live on until the verdict is there: its end would be taken for the reason.
#[derive(Debug, Default)]
pub struct Cast {
    server: Option<Upstream>,
    pub killer: Option<u32>,
}

impl Cast {
    pub fn server(&self) -> Option<u32> {
        self.server.as_ref().map(Upstream::pid)
    }
}

/// What is done to the connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    NobodyListens,
    /// The server does what this path asks for.
    Request(&'static str),
    ClosedUnread,
    Killed,
    OutOfMemory,
}

impl Fault {
    /// Breaks a connection to `address`.
    pub fn bring_about(self, address: SocketAddr) -> Result<Cast> {
        match self {
            Self::NobodyListens => Leg::refused(address).map(|()| Cast::default()),
            Self::Request(path) => ask(Upstream::start(address, &[], None)?, path),
            Self::ClosedUnread => ask(Upstream::start(address, &["--unread"], None)?, "/"),
            Self::Killed => killed(Upstream::start(address, &[], None)?),
            Self::OutOfMemory => {
                let cgroup = MemoryCgroup::create(MEMORY_LIMIT)?;
                ask(Upstream::start(address, &[], Some(&cgroup))?, "/oom")
            }
        }
    }
}

fn ask(upstream: Upstream, path: &str) -> Result<Cast> {
    let mut leg = Leg::connect(upstream.address())?;
    leg.request(path)?;
    leg.drain()?;
    Ok(Cast { server: Some(upstream), killer: None })
}

fn killed(mut upstream: Upstream) -> Result<Cast> {
    let mut leg = Leg::connect(upstream.address())?;
    leg.request("/hang")?;
    upstream.wait_for("/hang")?;
    let killer = upstream.killed_by_another()?;
    leg.drain()?;
    Ok(Cast { server: Some(upstream), killer: Some(killer) })
}

/// A connection that is there before the agent is.
#[derive(Debug)]
pub struct Older {
    upstream: Upstream,
    leg: Leg,
}

impl Older {
    pub fn open(address: SocketAddr) -> Result<Self> {
        let upstream = Upstream::start(address, &[], None)?;
        let mut leg = Leg::connect(address)?;
        // Its answer proves that the server has accepted, so that both ends have owners.
        leg.request("/hello")?;
        leg.answer()?;
        Ok(Self { upstream, leg })
    }

    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The agent sees a request being answered, and the next one being lost.
    pub fn answered_then_closed(mut self) -> Result<Cast> {
        self.leg.request("/hello")?;
        self.leg.answer()?;
        self.closed()
    }

    /// The agent sees nothing but a request and the end.
    pub fn closed(mut self) -> Result<Cast> {
        self.leg.request("/fin")?;
        self.leg.drain()?;
        ensure!(self.upstream.lives(), "the server ended");
        Ok(Cast { server: Some(self.upstream), killer: None })
    }
}
