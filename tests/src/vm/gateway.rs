//! The gateway's leg to an upstream, held by this process: one plain connection.
//!
//! It does not wait for what the agent says; see `smoke.rs`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::upstream::PATIENCE;

/// An open connection to an upstream.
#[derive(Debug)]
pub struct Leg(TcpStream);

impl Leg {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Connects where nobody listens.
    pub fn refused(address: SocketAddr) -> Result<()> {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => bail!("connect to {address}: {other:?}, and nobody listens there"),
        }
    }

    pub fn request(&mut self, path: &str) -> Result<()> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: upstream\r\n\r\n")
            .with_context(|| format!("request {path}"))
    }

    /// Reads one short answer of an upstream that keeps the connection.
    pub fn answer(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let count = self.0.read(&mut buffer).context("read an answer")?;
        ensure!(
            buffer[..count].starts_with(b"HTTP/1.1 200"),
            "{:?} is no answer",
            buffer[..count].escape_ascii()
        );
        Ok(())
    }

    /// Reads to the connection's end, by a FIN or a RST.
    pub fn drain(mut self) -> Result<()> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                Err(error).context("wait for the end")
            }
            _ => Ok(()),
        }
    }
}
