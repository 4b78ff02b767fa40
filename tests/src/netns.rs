//! Network namespaces and the two ways in which a gateway reaches its upstream: over a veth pair
//! between two namespaces, or over the loopback device of one.
//!
//! Everything is named after this process and a counter, so tests run in parallel; it goes away on
//! drop. Nothing here starts a long-lived process.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{poll, run};

/// How the gateway reaches the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Two namespaces joined by a veth pair: the two ends as two machines.
    Veth,
    /// One namespace: a sidecar, or a backend on the gateway's own machine.
    Loopback,
    /// Two namespaces with a third between them that forwards (IPv4 only).
    Routed,
    /// Two namespaces, each with a TUN device that a program may join, delay and cut (IPv4 only).
    Tun,
}

/// The IP version that the upstream leg speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// `ip netns add` mounts `/run/netns` on first use and two first uses at once fail.
static IP_NETNS: Mutex<()> = Mutex::new(());
static COUNTER: AtomicU16 = AtomicU16::new(0);
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
        // The upstreams of these tests listen below 61000, so no ephemeral port can take theirs.
        namespace.enter(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 65535"))??;
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
            Ok(work())
        });
        thread.join().map_err(|_| anyhow!("a thread in a namespace in passing panicked"))?
    })
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

/// The namespaces and addresses of one test.
#[derive(Debug)]
pub struct Net {
    pub link: Link,
    pub family: Family,
    gateway: Namespace,
    /// `None` over loopback, where the upstream lives beside the gateway.
    upstream: Option<Namespace>,
    /// Where packets for the dead address end; only made when a test asks for it.
    void: Option<Namespace>,
    /// Between gateway and upstream.
    router: Option<Namespace>,
    prefix: String,
    subnet: u16,
}

impl Net {
    /// Builds the namespaces for one test.
    ///
    /// # Errors
    /// When a namespace, a link or an address cannot be made.
    pub fn create(link: Link, family: Family) -> Result<Self> {
        let (prefix, subnet) = free_prefix();
        let gateway = Namespace::create(&format!("{prefix}-gw"))?;
        let upstream = match link {
            Link::Loopback => None,
            _ => Some(Namespace::create(&format!("{prefix}-up"))?),
        };
        let mut net = Self { link, family, gateway, upstream, void: None, router: None, prefix, subnet };
        match link {
            Link::Veth => {
                join_by_veth(&net.gateway, "up0", &net.host(1), net.upstream(), "gw0", &net.host(2))?;
                net.wait_for_the_path()?;
            }
            Link::Routed => {
                net.join_by_router()?;
                net.wait_for_the_path()?;
            }
            Link::Loopback | Link::Tun => {}
        }
        Ok(net)
    }

    /// Two subnets of a host's size, so that both addresses stay those of a veth pair.
    fn join_by_router(&mut self) -> Result<()> {
        let router = Namespace::create(&format!("{}-rt", self.prefix))?;
        let [high, low] = self.subnet.to_be_bytes();
        let (near, far) = (format!("10.{high}.{low}.129"), format!("10.{high}.{low}.130"));
        let sides = [
            (&self.gateway, "up0", self.host(1), "gw0", &near, self.host(2)),
            (self.upstream(), "gw0", self.host(2), "up0", &far, self.host(1)),
        ];
        for (end, device, own, hop_device, hop, other) in sides {
            end.ip(&[
                "link",
                "add",
                device,
                "type",
                "veth",
                "peer",
                "name",
                hop_device,
                "netns",
                &router.name,
            ])?;
            end.ip(&["addr", "add", &format!("{own}/32"), "dev", device])?;
            router.ip(&["addr", "add", &format!("{hop}/32"), "dev", hop_device])?;
            end.ip(&["link", "set", device, "up"])?;
            router.ip(&["link", "set", hop_device, "up"])?;
            end.ip(&["route", "add", hop, "dev", device])?;
            end.ip(&["route", "add", &other, "via", hop, "dev", device])?;
            router.ip(&["route", "add", &own, "dev", hop_device])?;
        }
        router.enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        self.router = Some(router);
        Ok(())
    }

    /// The namespace between the two (`Link::Routed`).
    pub fn router(&self) -> Option<&Namespace> {
        self.router.as_ref()
    }

    /// A new link takes its first packets late: carrier, multicast groups and neighbours come one after
    /// the other, and a first SYN that is lost would be one more fault than the test has injected.
    fn wait_for_the_path(&self) -> Result<()> {
        let nobody = self.free_upstream();
        let dial = || match TcpStream::connect_timeout(&nobody, Duration::from_millis(50)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(()),
            _ => None,
        };
        self.gateway.enter(|| poll(&format!("{nobody} to refuse"), Duration::from_secs(5), dial))?
    }

    /// The namespace of nginx and of the client.
    pub fn gateway(&self) -> &Namespace {
        &self.gateway
    }

    /// The namespace of the server.
    pub fn upstream(&self) -> &Namespace {
        self.upstream.as_ref().unwrap_or(&self.gateway)
    }

    /// Whether a JSON line's `netns` is one of this test's.
    pub fn owns(&self, inode: u64) -> bool {
        let namespaces =
            [Some(&self.gateway), self.upstream.as_ref(), self.void.as_ref(), self.router.as_ref()];
        namespaces.into_iter().flatten().any(|namespace| namespace.inode == inode)
    }

    /// The address nginx listens on.
    pub fn gateway_ip(&self) -> IpAddr {
        match self.link {
            Link::Loopback => self.localhost(),
            _ => self.host(1).parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        }
    }

    /// The address the server listens on.
    pub fn upstream_ip(&self) -> IpAddr {
        match self.link {
            Link::Loopback => self.localhost(),
            _ => self.host(2).parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        }
    }

    /// An address on the upstream's side with a port that no other test uses.
    pub fn free_upstream(&self) -> SocketAddr {
        SocketAddr::new(self.upstream_ip(), unique_port())
    }

    /// An address that is routed and resolved, and where nobody is: SYNs leave and nothing returns.
    ///
    /// # Errors
    /// When the link or the neighbour entry cannot be made.
    pub fn dead_upstream(&mut self) -> Result<SocketAddr> {
        let device = match self.link {
            Link::Veth | Link::Routed | Link::Tun => "up0",
            Link::Loopback => {
                let void = Namespace::create(&format!("{}-void", self.prefix))?;
                join_by_veth(&self.gateway, "void0", &self.host(1), &void, "gw0", &self.host(2))?;
                self.void = Some(void);
                "void0"
            }
        };
        // The link-layer address belongs to no device, so the frame is dropped on arrival.
        let dead = self.host(99);
        let neighbour =
            ["neigh", "add", &dead, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", device];
        self.gateway.ip(&neighbour)?;
        Ok(SocketAddr::new(dead.parse()?, unique_port()))
    }

    fn localhost(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Address number `number` of this test's subnet.
    pub fn host(&self, number: u8) -> String {
        let [high, low] = self.subnet.to_be_bytes();
        match self.family {
            Family::V4 => format!("10.{high}.{low}.{number}"),
            Family::V6 => format!("fd00:0:{:x}::{number:x}", self.subnet),
        }
    }
}

/// A port that no other test of this run uses, below the namespaces' ephemeral range.
pub fn unique_port() -> u16 {
    // Runners that give each test a process of its own differ in the pid, others in the counter.
    let base = u16::try_from(std::process::id() % 50).unwrap_or(0) * 1000 + 10_000;
    base + COUNTER.fetch_add(1, Ordering::Relaxed) % 1000
}

fn free_prefix() -> (String, u16) {
    let pid = std::process::id();
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("rst{pid}-{number}");
        // A killed run of an earlier process with our pid may have left its namespaces behind.
        if !path_of(&format!("{prefix}-gw")).exists() {
            let subnet = u16::try_from(pid % 200).unwrap_or(0) * 256 + number % 256;
            return (prefix, subnet);
        }
    }
}

fn join_by_veth(
    a: &Namespace,
    a_device: &str,
    a_ip: &str,
    b: &Namespace,
    b_device: &str,
    b_ip: &str,
) -> Result<()> {
    a.ip(&["link", "add", a_device, "type", "veth", "peer", "name", b_device, "netns", &b.name])?;
    for (namespace, device, ip) in [(a, a_device, a_ip), (b, b_device, b_ip)] {
        if ip.contains(':') {
            // Without `nodad` the address is tentative, and so unusable, for the first second.
            namespace.ip(&["addr", "add", &format!("{ip}/64"), "dev", device, "nodad"])?;
        } else {
            namespace.ip(&["addr", "add", &format!("{ip}/24"), "dev", device])?;
        }
        namespace.ip(&["link", "set", device, "up"])?;
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
