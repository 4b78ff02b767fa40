//! Network namespaces; and (`net`) the ways in which a gateway in one reaches its upstream.
//!
//! Everything is named after this process and a counter, so tests run in parallel; it goes away on
//! drop. Nothing here starts a long-lived process.

mod net;

use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result, anyhow, bail};

pub use net::{Family, Link, Net, unique_port};

use crate::process::run;

/// `ip netns add` mounts `/run/netns` on first use and two first uses at once fail.
static IP_NETNS: Mutex<()> = Mutex::new(());
static SWEEP: Once = Once::new();

/// One network namespace, deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    inode: u64,
}

impl Namespace {
    /// Creates an empty namespace with its loopback device up.
    ///
    /// # Errors
    /// When `ip netns add` fails, which without root it does.
    pub fn create(name: &str) -> Result<Self> {
        let guard = IP_NETNS.lock().unwrap_or_else(PoisonError::into_inner);
        SWEEP.call_once(sweep_the_dead);
        run(Command::new("ip").args(["netns", "add", name])).context("these tests need root and iproute2")?;
        drop(guard);
        let path = path_of(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let inode = file.metadata()?.ino();
        let namespace = Self { name: name.to_owned(), file, inode };
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.enter(keep_ephemeral_ports_high)??;
        Ok(namespace)
    }

    /// What `--netns` and `--vantage` take.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// The number by which the kernel, and so every JSON line, names this namespace.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `ip` with `args` in this namespace.
    ///
    /// # Errors
    /// When `ip` cannot be run or fails.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Calls `work` on a thread that has joined this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be joined or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                join(&self.file)?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow!("a thread in namespace {} panicked", self.name))?
        })
    }

    /// A command that will run in this namespace, itself: no wrapper, so its pid is the child's.
    ///
    /// # Errors
    /// When the namespace's handle cannot be duplicated.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let file = self.file.try_clone()?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec this calls setns(2) alone, which is async-signal-safe.
        unsafe { command.pre_exec(move || join(&file)) };
        Ok(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _guard = IP_NETNS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("namespace {} stays behind: {error:#}", self.name);
        }
    }
}

/// Calls `work` on a thread in a network namespace that is made for it, has nothing but loopback, and goes with it.
///
/// # Errors
/// When the namespace cannot be made or `work` panics.
pub fn in_passing<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: unshare takes no pointer, and changes the namespace of this thread alone.
            let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            if code != 0 {
                return Err(io::Error::last_os_error()).context("make a network namespace");
            }
            loopback_up()?;
            keep_ephemeral_ports_high()?;
            Ok(work())
        });
        thread.join().map_err(|_| anyhow!("a thread in a namespace in passing panicked"))?
    })
}

/// The upstreams of these tests listen below 61000. An ephemeral port in this thread's namespace that is one of theirs
/// would take their place, and a connect from it to itself succeeds where nobody listens (a simultaneous open).
fn keep_ephemeral_ports_high() -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 65535").context("move the ephemeral ports")
}

/// Both 127.0.0.1 and ::1 are there once the interface is up.
///
/// # Errors
/// When this process may not.
pub fn loopback_up() -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("open a socket")?;
    // SAFETY: all-zero bytes are a valid ifreq, which is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if code != 0 {
        return Err(io::Error::last_os_error()).context("bring loopback up");
    }
    Ok(())
}

/// Deletes what killed runs left behind, told by the pid in the name being nobody's.
fn sweep_the_dead() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("rst").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        let Some(pid) = pid.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            let _ = run(Command::new("ip").args(["netns", "del", &name]));
        }
    }
}

fn path_of(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

fn join(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor, which `namespace` keeps open, and touches no memory of ours.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Fails early, and clearly, where the tests cannot run at all.
///
/// # Errors
/// When this process is not root.
pub fn require_root() -> Result<()> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("the integration tests make network namespaces and load programs: run them as root");
    }
    Ok(())
}
