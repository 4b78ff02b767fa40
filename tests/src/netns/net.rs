//! The ways in which a gateway reaches its upstream: over a veth pair between two namespaces, over the loopback device
//! of one, by a router, or by a program.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::{Namespace, path_of};
use crate::process::poll;

static COUNTER: AtomicU16 = AtomicU16::new(0);

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
        self.gateway.enter(|| poll(&format!("{nobody} to refuse"), Duration::from_secs(20), dial))?
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
