//! Records of the ring buffer and values of the shared maps: integers and byte arrays only, no padding,
//! sizes asserted. The agent decodes them from bytes (feature `bytes`, whose derives prove that there is no
//! padding and that every bit pattern is valid); only the programs write them through pointers.
//!
//! Sequence numbers are the kernel's (host byte order); ports are in host byte order; addresses are 16
//! bytes in network order, IPv4 as `::ffff:a.b.c.d`, so that one socket has one spelling.

mod audit;
mod counters;
pub mod dns;
mod unix;

#[cfg(feature = "bytes")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use audit::*;
pub use counters::*;
pub use unix::*;

/// Goes up whenever a record changes its layout or meaning; a record of another version is refused.
pub const VERSION: u16 = 3;

/// Values of [`Header::kind`].
pub mod kind {
    pub const SOCKET_END: u16 = 1;
    pub const RESET_SENT: u16 = 2;
    pub const LISTENER: u16 = 3;
    pub const PROCESS_EXIT: u16 = 4;
    pub const SIGNAL: u16 = 5;
    pub const OOM_VICTIM: u16 = 6;
    /// Only in the snapshot, never in the ring.
    pub const SNAPSHOT: u16 = 7;
    /// Group `dns`.
    pub const DNS_QUERY: u16 = 8;
    pub const DNS_ANSWER: u16 = 9;
    /// Groups `connect-errors` and `unix`.
    pub const CONNECT_ERROR: u16 = 10;
    pub const UNIX_END: u16 = 11;
    pub const UNIX_SERVER: u16 = 12;
    /// One more than the last; the length of the tables that count by kind.
    pub const COUNT: u32 = 13;
}

/// Values of [`SocketEnd::role`].
pub mod role {
    /// This socket connected: a gateway's leg to an upstream.
    pub const CLIENT: u8 = 1;
    /// This socket was accepted.
    pub const SERVER: u8 = 2;
}

/// Bits of [`SocketEnd::flags`].
pub mod flag {
    /// `sk_lock.owned`: `actor` holds the socket. Without it `actor` is a bystander and is left zero.
    pub const OWNED: u32 = 1 << 0;
    /// `tcp_receive_reset` fired for this socket just before.
    pub const RST_RECEIVED: u32 = 1 << 1;
    /// `tcp_fin` ran for this socket just before (only where fentry or kprobe is to be had).
    pub const FIN_SEEN: u32 = 1 << 2;
    /// `SO_LINGER` with a time of 0: closing resets.
    pub const LINGER0: u32 = 1 << 3;
    /// `sk_socket` is null: the application has never accepted it (or has let go of it).
    pub const NO_SOCKET: u32 = 1 << 4;
    /// A request was written since the last read and nothing is unread.
    pub const PENDING: u32 = 1 << 5;
    /// The owner also reads from accepted connections: a gateway.
    pub const OWNER_ACCEPTS: u32 = 1 << 6;
    /// Opened before the programs were attached; what happened before is not known.
    pub const PREEXISTING: u32 = 1 << 7;
    /// `read_mark` and `exchanges` are known.
    pub const MARKED: u32 = 1 << 8;
    /// Received after it had last sent (resolution 1/HZ): an accepted socket owes an answer.
    pub const UNANSWERED: u32 = 1 << 9;
    /// An accepted socket whose client left while what it had sent was not acknowledged yet, or reset it after some
    /// of an answer.
    pub const ANSWERING: u32 = 1 << 10;
    /// Connections to this upstream have been used more than once.
    pub const UPSTREAM_REUSED: u32 = 1 << 16;
}

/// Bits of [`SocketEnd::notes`]: what became of a socket's segments elsewhere on this host.
pub mod note {
    /// The SYN was answered with a RST since no socket listens there; see `refused_in_netns`.
    pub const REFUSED: u32 = 1 << 0;
    /// A segment was answered with a RST since that host does not know the connection.
    pub const STRANGER: u32 = 1 << 1;
    /// The last segment of the handshake was answered with a RST since the accept queue is full
    /// (`tcp_abort_on_overflow`).
    pub const OVERFLOW_RESET: u32 = 1 << 2;
    /// The last segment of the handshake, or data after it, was dropped since the accept queue is full.
    pub const OVERFLOW_DROP: u32 = 1 << 3;
    /// Netfilter dropped a segment; see `filtered_in_netns`.
    pub const FILTERED: u32 = 1 << 4;
    /// Netfilter dropped a segment of the peer; see `filtered_in_netns`.
    pub const ANSWER_FILTERED: u32 = 1 << 5;
    /// A segment was dropped since its next hop has no link-layer address (no such host).
    pub const UNRESOLVED: u32 = 1 << 6;
    /// The accepted end of this connection closed owing an answer, or its process died badly.
    pub const PEER_ENDED: u32 = 1 << 7;
}

/// First in every record.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub version: u16,
    pub kind: u16,
    /// Bytes of the whole record.
    pub size: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ktime_ns: u64,
}

/// A process. All zero where it is not known.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Nanoseconds since boot: with the tgid it names a process even when pids wrap.
    pub start_boottime: u64,
    /// The same of the parent that it has now.
    pub parent_start_boottime: u64,
    /// Cgroup of the default hierarchy.
    pub cgroup_id: u64,
    pub tgid: u32,
    pub parent_tgid: u32,
    /// `PF_*` of include/linux/sched.h.
    pub flags: u32,
    /// As wait(2) packs it: signal in the low seven bits, status above eight.
    pub exit_code: u32,
    /// The thread group leader's.
    pub comm: [u8; 16],
    /// 1 if the OOM killer chose it (`signal->oom_mm`).
    pub oom: u32,
    pub netns: u32,
}

/// Addresses and ports of a socket, seen from it.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    pub local: [u8; 16],
    pub peer: [u8; 16],
    pub local_port: u16,
    pub peer_port: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
}

/// A socket left ESTABLISHED or SYN_SENT, or (role server) closed after its client had left.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketEnd {
    pub header: Header,
    pub skaddr: u64,
    pub cookie: u64,
    /// When it was opened (client role), 0 if before the programs were attached.
    pub opened_ns: u64,
    /// Cookie of the socket's network namespace: unlike the inode number, no other has it until the next boot.
    pub netns_cookie: u64,
    /// With `note::REFUSED`: that of the network namespace that answered.
    pub refused_in_cookie: u64,
    /// Payload, but for 1 after a FIN.
    pub bytes_received: u64,
    /// Payload, but for 1 for the SYN.
    pub bytes_acked: u64,
    /// The process that connected (client role).
    pub owner: Task,
    /// The process that holds the socket right now, if `OWNED`.
    pub actor: Task,
    pub tuple: Tuple,
    pub flags: u32,
    pub sk_err: u32,
    pub snd_una: u32,
    pub write_seq: u32,
    pub rcv_nxt: u32,
    pub copied_seq: u32,
    /// What has been sent ends before it: the sequence number of a RST that is sent now.
    pub snd_nxt: u32,
    /// `write_seq` at the last read.
    pub read_mark: u32,
    /// Jiffies since the last segment with data was sent (moves with retransmissions).
    pub lsnd_age: u32,
    /// Jiffies since the last segment with data came in.
    pub lrcv_age: u32,
    /// Jiffies since the last acknowledgement came in.
    pub ack_age: u32,
    pub total_retrans: u32,
    /// Retransmission timeouts since something was last acknowledged.
    pub timeouts: u32,
    /// `total_retrans` at the last read.
    pub retrans_mark: u32,
    pub srtt_us: u32,
    /// How often a read followed a write.
    pub exchanges: u32,
    /// Bits of `note`.
    pub notes: u32,
    /// With `note::REFUSED`: the network namespace that answered.
    pub refused_in_netns: u32,
    /// With `note::FILTERED` or `note::ANSWER_FILTERED`: the network namespace whose rules dropped it.
    pub filtered_in_netns: u32,
    /// Jiffies that the slowest answer of this upstream took of late; 0: none took 50 ms.
    pub slowest_answer: u32,
    /// Jiffies without data after which this upstream closed kept connections, the last eight in any order;
    /// 0: none yet.
    pub idle_ages: [u32; IDLE_AGES],
    /// What a connect that failed shares with all that fail in the same way; see [`AlikeKey`]. 0: it is no such.
    pub shape: u32,
    pub old_state: u8,
    pub new_state: u8,
    pub role: u8,
    pub sk_shutdown: u8,
}

/// `tcp_send_reset` fired for a socket.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetSent {
    pub header: Header,
    pub skaddr: u64,
    pub actor: Task,
    pub tuple: Tuple,
    /// `enum sk_rst_reason`, whose numbers move between kernels; `u32::MAX` where the kernel gives none.
    pub reason: u32,
    pub sk_state: u32,
    /// 1 if the RST answers a segment (`skb` is set), 0 if the socket sent it by itself.
    pub passive: u32,
    pub sk_err: u32,
}

/// A socket began or ceased to listen.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    pub header: Header,
    pub skaddr: u64,
    /// As in [`SocketEnd::netns_cookie`].
    pub netns_cookie: u64,
    pub actor: Task,
    pub tuple: Tuple,
    /// 1 began, 0 ceased.
    pub listening: u32,
    pub backlog_limit: u32,
    /// Connections waiting to be accepted.
    pub backlog: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// The last thread of a process that owned sockets is going.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessExit {
    pub header: Header,
    pub task: Task,
}

/// A signal that ends most programs was generated.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    pub header: Header,
    pub target: Task,
    /// Zero where the current task is no sender (interrupt context, kernel threads).
    pub sender: Task,
    pub signal: u32,
    /// `siginfo` argument: 0 `SEND_SIG_NOINFO`, 1 `SEND_SIG_PRIV` (the kernel itself), 2 a real one.
    pub info: u32,
}

/// The OOM killer chose a process.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomVictim {
    pub header: Header,
    pub task: Task,
}

/// A socket that existed before the programs were attached, with a process that holds it.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub header: Header,
    pub skaddr: u64,
    /// As in [`SocketEnd::netns_cookie`].
    pub netns_cookie: u64,
    pub task: Task,
    pub tuple: Tuple,
    pub sk_state: u32,
    pub role: u32,
    pub backlog_limit: u32,
    /// Connections waiting to be accepted.
    pub backlog: u32,
}

const _: () = assert!(size_of::<Header>() == 16);
const _: () = assert!(size_of::<Task>() == 64);
const _: () = assert!(size_of::<Tuple>() == 40);
const _: () = assert!(size_of::<SocketEnd>() == 360);
const _: () = assert!(size_of::<ResetSent>() == 144);
const _: () = assert!(size_of::<Listener>() == 152);
const _: () = assert!(size_of::<ProcessExit>() == 80);
const _: () = assert!(size_of::<Signal>() == 152);
const _: () = assert!(size_of::<OomVictim>() == 80);
const _: () = assert!(size_of::<Snapshot>() == 152);
