//! Plain sockets on the gateway's side: clients that curl cannot be, and probes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Stage;

impl Stage {
    /// Connects from the gateway's namespace. The process that connects is this one: no gateway.
    ///
    /// # Errors
    /// When nobody takes the connection.
    pub fn dial(&self, address: SocketAddr) -> Result<TcpStream> {
        let stream = self.net().gateway().enter(|| TcpStream::connect(address))?;
        let stream = stream.with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// Connects to the gateway and writes the header of a GET request for `path`.
    ///
    /// # Errors
    /// When the gateway does not take it.
    pub fn ask(&self, path: &str) -> Result<TcpStream> {
        let mut stream = self.dial(self.gateway())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: rstrace\r\n\r\n")?;
        Ok(stream)
    }
}

/// Says that nothing more will be written, and reads what still comes.
///
/// # Errors
/// When the peer does not close in turn.
pub fn half_close(mut stream: TcpStream) -> Result<String> {
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
