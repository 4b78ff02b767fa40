//! What a large host holds: open connections by the hundred thousand, and processes with a socket each.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Namespace;
use crate::process::{Guarded, Lines};

/// For the connections of one holder, on a busy machine.
const OPENED: Duration = Duration::from_secs(60);

/// Connections to one address: what the range of local ports has room for, with some left.
const TO_ONE: usize = 20_000;
/// Connections that one process holds, with two descriptors each: below the limit that root may not raise in a
/// container.
const OF_ONE: usize = 8_000;
const PORT: u16 = 20_000;
/// The word that makes `bench` a holder.
pub const HOLD: &str = "hold-connections";

/// Open connections, both ends in the same process, of which there are as many as descriptors demand.
#[derive(Debug)]
pub struct Connections {
    _holders: Vec<Guarded>,
}

impl Connections {
    /// Opens so many, to at least that many addresses.
    ///
    /// # Errors
    /// When there are not enough descriptors or ports.
    pub fn open(namespace: &Namespace, count: usize, upstreams: usize) -> Result<Self> {
        let mut holders = Vec::new();
        for (number, first) in (0..count).step_by(OF_ONE).enumerate() {
            let own = OF_ONE.min(count - first);
            let holder_count = count.div_ceil(OF_ONE);
            let own_upstreams = upstreams.div_ceil(holder_count).clamp(1, own);
            let mut command = namespace.command(std::env::current_exe()?)?;
            command.args([HOLD, &own.to_string(), &(number * own_upstreams).to_string()]);
            command.arg(own_upstreams.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
            let mut holder = Guarded::spawn(&mut command)?;
            let said = Lines::of(holder.child().stdout.take().context("the holder's stdout is piped")?);
            let said = said.next(Instant::now() + OPENED)?.context("the connections take too long")?;
            ensure!(said.text == "held", "a holder of connections said {}", said.text);
            holders.push(holder);
        }
        Ok(Self { _holders: holders })
    }
}

/// What `bench` does when it is started as a holder: opens `count` connections to addresses from number `first` on, says
/// so, and keeps them until it is killed.
///
/// # Errors
/// When there are not enough descriptors or ports.
pub fn hold(arguments: &[String]) -> Result<()> {
    let numbers = arguments.iter().map(|text| text.parse()).collect::<Result<Vec<usize>, _>>()?;
    let [count, first, upstreams] = numbers[..] else { bail!("{HOLD} COUNT FIRST UPSTREAMS") };
    allow_descriptors(2 * count + upstreams + 100)?;
    let mut held = Vec::with_capacity(count);
    for number in 0..upstreams {
        let listener = TcpListener::bind(address(first + number))?;
        let to = listener.local_addr()?;
        for _ in (number..count).step_by(upstreams) {
            held.push((TcpStream::connect(to)?, listener.accept()?.0));
        }
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "held").and_then(|()| stdout.flush())?;
    loop {
        std::thread::park();
    }
}

/// One address of loopback for each number.
pub fn address(number: usize) -> SocketAddr {
    let [_, high, middle, low] = u32::try_from(number + 1).unwrap_or_default().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, high, middle, low), PORT))
}

/// Processes that own one connection each, and do nothing.
#[derive(Debug)]
pub struct Processes {
    pids: Vec<libc::pid_t>,
    _accepted: Vec<TcpStream>,
}

impl Processes {
    /// Forks so many in the namespace.
    ///
    /// # Errors
    /// When the kernel has no room for them, or one cannot connect.
    pub fn fork(namespace: &Namespace, count: usize) -> Result<Self> {
        allow_descriptors(count + 1000)?;
        namespace.enter(|| {
            let mut processes =
                Self { pids: Vec::with_capacity(count), _accepted: Vec::with_capacity(count) };
            for number in 0..count.div_ceil(TO_ONE) {
                let listener = TcpListener::bind(address(number))?;
                for _ in 0..TO_ONE.min(count - processes.pids.len()) {
                    processes.pids.push(fork_one(&listener)?);
                    processes._accepted.push(listener.accept()?.0);
                }
            }
            Ok(processes)
        })?
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for pid in &self.pids {
            // SAFETY: kill and waitpid touch no memory of ours; the child is not reaped before, so the pid is its.
            unsafe {
                libc::kill(*pid, libc::SIGKILL);
                libc::waitpid(*pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// A child that connects to the listener and waits for its end. It keeps no other descriptor.
fn fork_one(listener: &TcpListener) -> Result<libc::pid_t> {
    let SocketAddr::V4(to) = listener.local_addr()? else { return Err(io::Error::other("not IPv4").into()) };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    };
    let size = libc::socklen_t::try_from(size_of_val(&address))?;
    // SAFETY: the child of this process, which has several threads, calls async-signal-safe functions only and never
    // returns; `address` is read by connect(2) and is its copy.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            if socket < 0 || libc::connect(socket, (&raw const address).cast(), size) < 0 {
                libc::_exit(1);
            }
            // It returns when the parent is gone, and with it the other end.
            let mut byte = 0_u8;
            libc::read(socket, (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        pid
    };
    ensure!(pid > 0, "cannot fork: {}", io::Error::last_os_error());
    Ok(pid)
}

/// Raises the limit of descriptors as far as this process may.
fn allow_descriptors(count: usize) -> Result<()> {
    let wanted = libc::rlim_t::try_from(count)?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a whole `rlimit`.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_cur.max(wanted.min(limit.rlim_max));
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    ensure!(
        done == 0 && limit.rlim_cur >= wanted,
        "cannot have {count} descriptors: ulimit -n is {}",
        limit.rlim_max
    );
    Ok(())
}
