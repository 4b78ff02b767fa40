//! The other processes of the demo: servers that end their one connection in one way, and a killer.
//!
//! They are told nothing of tracing: plain sockets, found from outside like any server. What they wait for is
//! bounded, so that none is left behind.

use std::io::{self, BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::exit;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{DemoPart, Ending};

/// Longest wait for the other side.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// What the server that exits exits with.
const EXIT_CODE: i32 = 3;

const HALF_AN_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe first half";

/// Does what a hidden `rstrace demo-part` is told to do.
///
/// # Errors
/// If loopback cannot be used, or the demo went away.
pub fn play(part: DemoPart) -> Result<()> {
    match part {
        DemoPart::Serve { ending } => serve(ending),
        DemoPart::Kill { pid } => kill(pid),
    }
}

fn kill(pid: u32) -> Result<()> {
    name(c"demo-killer");
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, Signal::KILL).context("cannot kill the demo's server")
}

fn serve(ending: Ending) -> Result<()> {
    name(c"demo-api");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
    say(&listener.local_addr()?.port().to_string())?;
    if ending == Ending::Leave {
        return Ok(());
    }
    let mut stream = accept(&listener)?;
    if ending == Ending::CloseUnread {
        // Closing before it came would be a harmless FIN.
        wait_until("a request", || Ok(rustix::io::ioctl_fionread(&stream)? > 0))?;
    } else {
        read_request(&mut stream)?;
    }
    match ending {
        // With the connection open, so that it is the exit that closes it.
        Ending::Exit => exit(EXIT_CODE),
        Ending::Wait => {}
        Ending::Leave | Ending::Close | Ending::CloseUnread => drop(stream),
        Ending::Reset => reset(stream)?,
        Ending::ResetHalfway => {
            stream.write_all(HALF_AN_ANSWER)?;
            // An answer that the client has not read yet would go down with the reset.
            hear()?;
            reset(stream)?;
        }
    }
    say("done")?;
    // Lives on until the demo has its verdict.
    while hear()? {}
    Ok(())
}

fn reset(stream: TcpStream) -> Result<()> {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let mut accepted = None;
    listener.set_nonblocking(true)?;
    wait_until("a connection", || match listener.accept() {
        Ok((stream, _)) => {
            accepted = Some(stream);
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    })?;
    let stream = accepted.context("no connection came")?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read_request(stream: &mut TcpStream) -> Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut chunk).context("no request came")?;
        if n == 0 {
            bail!("the demo's client left");
        }
        request.extend_from_slice(&chunk[..n]);
    }
    Ok(())
}

fn wait_until(what: &str, mut done: impl FnMut() -> io::Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            bail!("{what} did not come");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// By which the verdicts call this process.
fn name(comm: &std::ffi::CStr) {
    // Without its name the demo is as good, only less clear.
    let _ = rustix::thread::set_name(comm);
}

/// A line for the demo, which reads our standard output.
fn say(line: &str) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Waits for a line of the demo; false once it has nothing more to say, or has gone.
fn hear() -> Result<bool> {
    let mut line = String::new();
    Ok(io::stdin().lock().read_line(&mut line)? > 0)
}
