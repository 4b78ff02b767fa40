//! Faults that one thread can make by the thousand: it holds both ends of a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::reset;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: upstream\r\n\r\n";

/// What is done over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connects to where nobody listens.
    Refused,
    /// Accepted connections are closed with a request in them that was not read.
    Unread,
    /// Accepted connections are closed with SO_LINGER 0 when the request was read.
    Linger,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused connects",
            Self::Unread => "resets, request unread",
            Self::Linger => "resets, SO_LINGER 0",
        }
    }

    /// The metric, and the label, under which the kernel programs count it.
    pub fn counted(self) -> (&'static str, (&'static str, &'static str)) {
        match self {
            Self::Refused => ("rstrace_upstream_connections_total", ("outcome", "refused")),
            Self::Unread | Self::Linger => ("rstrace_upstream_resets_total", ("direction", "received")),
        }
    }
}

/// One fault at one upstream.
#[derive(Debug)]
pub struct Breaker {
    fault: Fault,
    upstream: SocketAddr,
    /// Nobody listens where connects are to be refused.
    listener: Option<TcpListener>,
}

impl Breaker {
    /// Listens in the calling thread's namespace, where the fault needs a listener.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn new(fault: Fault, upstream: SocketAddr) -> Result<Self> {
        let listener = (fault != Fault::Refused).then(|| TcpListener::bind(upstream)).transpose()?;
        Ok(Self { fault, upstream, listener })
    }

    /// As often as it can be done in that time; says how often.
    ///
    /// # Errors
    /// When a connection does not end as it should.
    pub fn flood(&self, duration: Duration) -> Result<u64> {
        let deadline = Instant::now() + duration;
        let mut done = 0;
        while Instant::now() < deadline {
            self.once()?;
            done += 1;
        }
        Ok(done)
    }

    /// So many a second, in batches a millisecond or more apart; fewer where the machine makes no more.
    ///
    /// # Errors
    /// When a connection does not end as it should.
    pub fn pace(&self, rate: u32, duration: Duration) -> Result<u64> {
        let began = Instant::now();
        let mut done: u64 = 0;
        while began.elapsed() < duration {
            let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            if done >= due {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            self.once()?;
            done += 1;
        }
        Ok(done)
    }

    /// Once. Each side waits for what the other did, which with RPS comes over another core.
    ///
    /// # Errors
    /// When the connection does not end as it should.
    pub fn once(&self) -> Result<()> {
        let (upstream, opened) = (self.upstream, TcpStream::connect(self.upstream));
        let Some(listener) = &self.listener else {
            return match opened {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                other => bail!("{upstream} did not refuse: {other:?}"),
            };
        };
        let mut client = opened?;
        let (mut accepted, _) = listener.accept()?;
        client.write_all(REQUEST)?;
        let mut request = [0; REQUEST.len()];
        if self.fault == Fault::Linger {
            accepted.read_exact(&mut request)?;
            reset(accepted);
        } else {
            accepted.peek(&mut request)?;
            drop(accepted);
        }
        match client.read(&mut request) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            other => bail!("{upstream} did not reset: {other:?}"),
        }
    }
}
