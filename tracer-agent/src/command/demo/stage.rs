//! The client's side of the demo: starts a server, sends it a request, and has the connection broken.
//!
//! Blocks, and is to be run on a thread for that. The client is this process, with plain sockets of its own.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::cli::Ending;

/// Longest wait for a server of the demo.
const PATIENCE: Duration = Duration::from_secs(2);

const REQUEST: &[u8] = b"GET /demo HTTP/1.1\r\nHost: demo\r\n\r\n";

/// A server with the connection that is, or was, broken. Dropping it ends the server.
#[derive(Debug)]
pub struct Stage {
    ending: Ending,
    server: Server,
    upstream: SocketAddr,
    connection: Option<TcpStream>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

// === impl Stage ===

impl Stage {
    /// Starts the server. Nothing is connected yet, so that whoever wants to see the end can get ready.
    ///
    /// # Errors
    /// If this program cannot be started again, or cannot listen on loopback.
    pub fn set(ending: Ending) -> Result<Self> {
        let mut server = Server::start(ending)?;
        let port: u16 = server.line()?.parse().context("the demo's server said no port")?;
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { ending, server, upstream, connection: None })
    }

    /// The address that will be dialled.
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// Connects, and has the connection end.
    ///
    /// # Errors
    /// If it did not come so far.
    pub fn play(mut self) -> Result<Self> {
        if self.ending == Ending::Leave {
            self.server.child.wait()?;
            return match TcpStream::connect_timeout(&self.upstream, PATIENCE) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(self),
                Err(error) => Err(error).context("cannot connect on loopback"),
                Ok(_) => bail!("another process took {} meanwhile: try again", self.upstream),
            };
        }
        let mut connection =
            TcpStream::connect_timeout(&self.upstream, PATIENCE).context("cannot connect on loopback")?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(REQUEST)?;
        match self.ending {
            Ending::Wait => self.server.kill()?,
            Ending::ResetHalfway => {
                let mut half = [0; 512];
                connection.read(&mut half).context("no half of an answer came")?;
                self.server.stdin.write_all(b"\n")?;
            }
            _ => {}
        }
        // A FIN reads as the end, a RST as an error: the connection is broken then, and that is all.
        match connection.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("the server did not end the connection")
            }
            Ok(_) | Err(_) => {}
        }
        self.connection = Some(connection);
        Ok(self)
    }
}

/// This very program, even if its file has been replaced since.
fn again(part: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("rstrace").arg("demo-part").args(part);
    command
}

// === impl Server ===

impl Server {
    fn start(ending: Ending) -> Result<Self> {
        let ending = ending.to_possible_value().context("an ending without a name")?;
        let mut child = again(&["serve", ending.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the pipes to the demo's server are missing")
        };
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Has it killed by a process that is not its parent, once it works on the request.
    fn kill(&mut self) -> Result<()> {
        self.line()?;
        let pid = self.child.id().to_string();
        let status = again(&["kill", &pid]).status().context("cannot start this program again")?;
        if !status.success() {
            bail!("the server could not be killed");
        }
        Ok(())
    }

    /// The next line that it says. Its own patience bounds the wait.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("the demo's server ended early");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, as it was told to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
