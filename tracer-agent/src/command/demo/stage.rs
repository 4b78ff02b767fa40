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

/// A connection that was broken, with its server if that still lives. Dropping it ends the server.
#[derive(Debug)]
pub struct Staged {
    upstream: SocketAddr,
    _server: Server,
    _connection: Option<TcpStream>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

// === impl Staged ===

impl Staged {
    /// The address that was dialled.
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }
}

/// Has a connection end in that way.
///
/// # Errors
/// If it did not come so far.
pub fn break_one(ending: Ending) -> Result<Staged> {
    let mut server = Server::start(ending)?;
    let port: u16 = server.line()?.parse().context("the demo's server said no port")?;
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if ending == Ending::Leave {
        server.child.wait()?;
        return match TcpStream::connect_timeout(&upstream, PATIENCE) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Ok(Staged { upstream, _server: server, _connection: None })
            }
            Err(error) => Err(error).context("cannot connect on loopback"),
            Ok(_) => bail!("another process took port {port} meanwhile: try again"),
        };
    }
    let mut connection =
        TcpStream::connect_timeout(&upstream, PATIENCE).context("cannot connect on loopback")?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(REQUEST)?;
    match ending {
        Ending::Wait => {
            server.line()?;
            let pid = server.child.id().to_string();
            let status = again(&["kill", &pid]).status().context("cannot start this program again")?;
            if !status.success() {
                bail!("the server could not be killed");
            }
        }
        Ending::ResetHalfway => {
            let mut half = [0; 512];
            connection.read(&mut half).context("no half of an answer came")?;
            server.stdin.write_all(b"\n")?;
        }
        _ => {}
    }
    // A FIN reads as the end, a RST as an error: the connection is broken then, and that is all.
    match connection.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("the server did not end the connection"),
        Ok(_) | Err(_) => {}
    }
    Ok(Staged { upstream, _server: server, _connection: Some(connection) })
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
