//! What the kernel programs say, decoded: the left edge of the pure core.
//!
//! Sits between `kernel` (bytes from the ring) and `table` (what is remembered of them). Holds no state and
//! reads no clock; times are `CLOCK_MONOTONIC` nanoseconds as the programs wrote them.
//!
//! Recordings hold these types as they are: a field that is added later carries `#[serde(default)]`, so that older
//! recordings can still be read.

mod connect_error;
mod decode;
mod dns;
mod end_seq;
pub mod errno;
mod mib;
mod target;
mod task;
mod tcp_state;
mod unix;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tracer_ebpf::wire::IDLE_AGES;

pub use connect_error::ConnectError;
pub use tracer_ebpf::LONGEST_GOODBYE;

pub use decode::{DecodeError, decode};
pub use dns::{DnsAnswer, DnsQuery, QueryType, Reply};
pub use mib::{Counter, Mib, QueueDrops, Sight};
pub use target::Target;
pub use task::{Exit, Process, ProcessId};
pub use tcp_state::TcpState;
pub use unix::{UnixConnection, UnixEnd, UnixHow, UnixServer};

/// The four-tuple of a socket, seen from it, and its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tuple {
    /// IPv4-mapped addresses are unmapped, so that both ends of a connection spell it alike.
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// Inode number of the network namespace.
    pub netns: u32,
}

/// Which end of a connection a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It connected.
    Client,
    /// It was accepted.
    Server,
}

/// A socket left ESTABLISHED or SYN_SENT, or an accepted one was closed after its client had left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketEnd {
    pub ktime_ns: u64,
    pub skaddr: u64,
    pub cookie: u64,
    pub opened_ns: Option<u64>,
    pub role: Role,
    pub tuple: Tuple,
    /// Cookie of the network namespace: unlike the inode number, no other has it until the next boot. 0: not known.
    #[serde(default)]
    pub netns_cookie: u64,
    pub old_state: TcpState,
    pub new_state: TcpState,
    /// Who connected (client role).
    pub owner: Option<Process>,
    /// Who closed it, if a process did: only where `sk_lock.owned` says so.
    pub actor: Option<Process>,
    pub sk_err: u32,
    pub shutdown: u8,
    pub rst_received: bool,
    pub fin_seen: bool,
    pub linger0: bool,
    /// The application never held it: not accepted yet.
    pub no_socket: bool,
    /// A request was written since the last read and nothing is unread.
    pub pending: bool,
    /// The owner also reads from accepted connections.
    pub owner_accepts: bool,
    pub preexisting: bool,
    /// `pending`, `exchanges` and `bytes_sent` can be trusted.
    pub marked: bool,
    /// Received after it had last sent (accepted sockets).
    pub unanswered: bool,
    /// The client left while what this accepted socket had sent was not acknowledged yet, or reset it after some of an
    /// answer.
    #[serde(default)]
    pub answering: bool,
    /// The namespace of this host that answered the SYN with a RST since no socket listens there.
    pub refused_in_netns: Option<u32>,
    /// The cookie of that namespace; 0: not known.
    #[serde(default)]
    pub refused_in_cookie: u64,
    /// The namespace of this host whose packet filter dropped a segment of this socket.
    #[serde(default)]
    pub filtered_in_netns: Option<u32>,
    /// The namespace of this host whose packet filter dropped a segment of the peer.
    #[serde(default)]
    pub answer_filtered_in_netns: Option<u32>,
    /// A host of this kernel answered a segment with a RST since it does not know the connection.
    #[serde(default)]
    pub stranger: bool,
    /// The peer's accept queue was full: it answered the last segment of the handshake with a RST.
    #[serde(default)]
    pub queue_reset: bool,
    /// The peer's accept queue was full: it dropped the last segment of the handshake, and data after it.
    #[serde(default)]
    pub queue_dropped: bool,
    /// A segment was dropped since its next hop has no link-layer address.
    #[serde(default)]
    pub unresolved: bool,
    /// The accepted end on this host closed owing an answer, or its process died badly.
    #[serde(default)]
    pub peer_ended_badly: bool,
    /// Payload bytes received, a FIN not counted.
    pub bytes_received: u64,
    /// Payload bytes written, acknowledged or not.
    pub bytes_sent: u64,
    /// Payload bytes received and not read.
    pub unread: u32,
    /// Bytes written and not acknowledged.
    pub unacked: u32,
    /// Next sequence number to write, and next to receive: what joins both ends of one connection.
    pub write_seq: u32,
    pub rcv_nxt: u32,
    /// The sequence number of a RST sent now; it lags behind `write_seq` by what could not be sent yet.
    #[serde(default)]
    pub snd_nxt: Option<u32>,
    /// Jiffies since data was last sent, and last received.
    pub lsnd_age: u32,
    pub lrcv_age: u32,
    pub retransmits: u32,
    /// Retransmission timeouts since something was last acknowledged: 0 while the peer takes its time and answers
    /// probes.
    #[serde(default)]
    pub timeouts: u32,
    /// Jiffies since the last acknowledgement came in.
    #[serde(default)]
    pub ack_age: u32,
    /// Retransmissions since the last read: if any, `lsnd_age` is no age of the request.
    pub retransmits_since_read: u32,
    pub srtt_us: u32,
    /// Answers read so far.
    pub exchanges: u32,
    /// Jiffies that the slowest answer of this upstream took of late; 0: none took 50 ms.
    #[serde(default)]
    pub slowest_answer: u32,
    /// Jiffies without data after which this upstream closed kept connections; 0: no such yet.
    #[serde(default)]
    pub idle_ages: [u32; IDLE_AGES],
    /// Connections to this upstream have been used more than once.
    #[serde(default)]
    pub upstream_reused: bool,
    /// What a connect that failed shares with those that fail alike, which the kernel may only count.
    #[serde(default)]
    pub shape: Option<u32>,
    /// Bytes written since the last read; None where no read was seen.
    pub written_since_read: Option<u32>,
}

/// `tcp_send_reset` fired for a socket of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetSent {
    pub ktime_ns: u64,
    pub skaddr: u64,
    pub tuple: Tuple,
    pub actor: Option<Process>,
    /// Number in the running kernel's `enum sk_rst_reason`; None where the kernel gives none.
    pub reason: Option<u32>,
    pub state: TcpState,
    /// It answers a segment; otherwise the socket sent it by itself.
    pub passive: bool,
}

/// A socket began or ceased to listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerChange {
    pub ktime_ns: u64,
    pub skaddr: u64,
    pub address: SocketAddr,
    pub netns: u32,
    /// As in [`SocketEnd::netns_cookie`].
    #[serde(default)]
    pub netns_cookie: u64,
    pub listening: bool,
    pub actor: Option<Process>,
    pub backlog: u32,
    pub backlog_limit: u32,
}

/// The last thread of a process that owned sockets is going.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    pub ktime_ns: u64,
    pub process: Process,
}

/// A signal that ends most programs was generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSent {
    pub ktime_ns: u64,
    pub target: Process,
    /// None: the kernel, or not to be known.
    pub sender: Option<Process>,
    pub signal: u32,
    /// The kernel raised it itself (`SEND_SIG_PRIV`).
    pub by_kernel: bool,
}

/// The OOM killer chose a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomVictim {
    pub ktime_ns: u64,
    pub process: Process,
}

/// A socket that existed before the start, or that the agent has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existing {
    pub ktime_ns: u64,
    pub skaddr: u64,
    pub tuple: Tuple,
    /// As in [`SocketEnd::netns_cookie`].
    #[serde(default)]
    pub netns_cookie: u64,
    pub state: TcpState,
    pub role: Option<Role>,
    pub process: Process,
    /// Connections that wait to be accepted, and how many may (listeners).
    #[serde(default)]
    pub backlog: u32,
    pub backlog_limit: u32,
}

/// Everything that enters the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    SocketEnd(SocketEnd),
    ResetSent(ResetSent),
    Listener(ListenerChange),
    ProcessExit(ProcessExit),
    Signal(SignalSent),
    OomVictim(OomVictim),
    Existing(Existing),
    DnsQuery(DnsQuery),
    DnsAnswer(DnsAnswer),
    ConnectError(ConnectError),
    UnixEnd(UnixEnd),
    UnixServer(UnixServer),
}

// === impl SocketEnd ===

const SEND_SHUTDOWN: u8 = 2;

impl SocketEnd {
    /// Jiffies since the pending request was sent. A goodbye that was written within the last tick or two and is not
    /// acknowledged yet has moved the kernel's time of sending: the request is at least as old as the last
    /// acknowledgement.
    #[must_use]
    pub fn request_age(&self) -> u32 {
        let just_written = self.lsnd_age <= 1 && (1..=LONGEST_GOODBYE).contains(&self.unacked);
        let before = self.written_since_read.is_some_and(|written| written > self.unacked);
        if just_written && before { self.ack_age } else { self.lsnd_age }
    }
}

// === impl Event ===

impl Event {
    /// The network namespaces that it names with their cookies: inode number and cookie.
    pub fn namespaces(&self) -> impl Iterator<Item = (u32, u64)> + use<> {
        let (own, refused) = match self {
            Self::SocketEnd(e) => {
                let refused = e.refused_in_netns.map(|netns| (netns, e.refused_in_cookie));
                (Some((e.tuple.netns, e.netns_cookie)), refused)
            }
            Self::Listener(e) => (Some((e.netns, e.netns_cookie)), None),
            Self::Existing(e) => (Some((e.tuple.netns, e.netns_cookie)), None),
            _ => (None, None),
        };
        [own, refused].into_iter().flatten().filter(|(_, cookie)| *cookie != 0)
    }

    /// When the kernel saw it, `CLOCK_MONOTONIC` nanoseconds.
    #[must_use]
    pub fn ktime_ns(&self) -> u64 {
        match self {
            Self::SocketEnd(e) => e.ktime_ns,
            Self::ResetSent(e) => e.ktime_ns,
            Self::Listener(e) => e.ktime_ns,
            Self::ProcessExit(e) => e.ktime_ns,
            Self::Signal(e) => e.ktime_ns,
            Self::OomVictim(e) => e.ktime_ns,
            Self::Existing(e) => e.ktime_ns,
            Self::DnsQuery(e) => e.ktime_ns,
            Self::DnsAnswer(e) => e.ktime_ns,
            Self::ConnectError(e) => e.ktime_ns,
            Self::UnixEnd(e) => e.ktime_ns,
            Self::UnixServer(e) => e.ktime_ns,
        }
    }
}

// === impl SocketEnd ===

impl SocketEnd {
    /// On a connection that had served before, not one byte of the request had reached the peer's kernel: what that
    /// sent at the time, it sent without knowing.
    #[must_use]
    pub fn request_had_not_arrived(&self) -> bool {
        self.exchanges > 0 && self.unacked > 0 && self.written_since_read == Some(self.unacked)
    }

    /// The process that holds this established socket closed it, or shut it down.
    #[must_use]
    pub fn closed_here(&self) -> bool {
        !matches!(self.old_state, TcpState::SynSent | TcpState::CloseWait)
            && !self.rst_received
            && (self.new_state == TcpState::FinWait1
                || (self.new_state == TcpState::Close && self.sk_err == 0))
    }

    /// It was shut down for writing only (`SEND_SHUTDOWN` of include/net/sock.h): its owner goes on reading.
    #[must_use]
    pub fn half_closed(&self) -> bool {
        self.new_state == TcpState::FinWait1 && self.shutdown == SEND_SHUTDOWN
    }
}

/// Spells an IPv4-mapped IPv6 address as IPv4.
#[must_use]
pub fn unmapped(address: [u8; 16]) -> IpAddr {
    let v6 = std::net::Ipv6Addr::from(address);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// The same, the other way.
#[must_use]
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
