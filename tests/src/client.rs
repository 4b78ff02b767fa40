//! The client of the gateway: curl, in the gateway's namespace.
//! It is no gateway itself, so whatever it does must stay silent.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Namespace;
use crate::process::Guarded;

/// A request under way.
#[derive(Debug)]
pub struct Request {
    curl: Guarded,
}

/// How a request ended for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status, 0 when there was none.
    pub status: u16,
    /// curl's exit code: 0, 18 for a response that is too short, 28 for `--max-time`.
    pub code: i32,
    /// From the start of the transfer to its end, by curl's clock.
    pub took: Duration,
}

impl Request {
    /// Starts a request; `arguments` are curl's own, the URL among them.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn start(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let mut command = namespace.command("curl")?;
        command.args([
            "--silent",
            "--noproxy",
            "*",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{time_total}\n",
        ]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Self { curl: Guarded::spawn(&mut command)? })
    }

    /// Ends the client, and with it its connection.
    ///
    /// # Errors
    /// When it does not end.
    pub fn give_up(mut self) -> Result<()> {
        self.curl.signal(libc::SIGTERM);
        self.curl.wait(Duration::from_secs(20)).context("curl")?;
        Ok(())
    }

    /// Waits for the request's end.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome> {
        let code = self.curl.wait(limit).context("curl")?.code().unwrap_or(-1);
        let mut text = String::new();
        self.curl.child().stdout.take().context("curl's stdout is piped")?.read_to_string(&mut text)?;
        // Of several requests the first.
        let (status, seconds) = text.lines().next().and_then(|line| line.split_once(' ')).unwrap_or_default();
        let took = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Outcome { status: status.parse().unwrap_or(0), code, took: took.unwrap_or_default() })
    }
}

/// Sends `count` requests to `url` one after the other over one client connection, and demands that
/// each is answered with 200.
///
/// # Errors
/// When one is not.
pub fn demand_200s(namespace: &Namespace, url: &str, count: usize) -> Result<()> {
    let mut command = namespace.command("curl")?;
    command.args(["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}\n"]);
    // curl repeats the URL for each number of the range; the server ignores the query.
    command.arg(format!("{url}?[1-{count}]")).stdin(Stdio::null());
    let output = command.output().context("run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answered = text.lines().filter(|line| *line == "200").count();
    ensure!(answered == count, "{answered} of {count} requests were answered with 200");
    Ok(())
}

/// Connects `count` times to where nobody listens, as fast as one thread can, and says how long that
/// took. The caller is no gateway; a refusal is shown all the same, because it is not its doing.
///
/// # Errors
/// When a connection is not refused.
pub fn dial_refused(namespace: &Namespace, address: SocketAddr, count: u32) -> Result<Duration> {
    namespace.enter(|| {
        let start = Instant::now();
        for _ in 0..count {
            match TcpStream::connect(address) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                other => bail!("{address} did not refuse: {other:?}"),
            }
        }
        Ok(start.elapsed())
    })?
}

/// Closes with SO_LINGER 0, which sends a RST in place of a FIN.
pub fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap_or(0);
    // SAFETY: the pointer and the size describe `linger`, which outlives the call.
    unsafe {
        let value = (&raw const linger).cast::<libc::c_void>();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size);
    }
    drop(stream);
}
