//! Unix stream sockets: their ends, and who serves them.

use serde::{Deserialize, Serialize};
use tracer_ebpf::wire::{self, unix_flag, unix_how};

use super::Process;
use super::decode::process;

/// What is known of a socket that connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixConnection {
    /// Inode number of its file.
    pub ino: u64,
    /// None if it connected unseen.
    pub opened_ns: Option<u64>,
    /// When something was sent last.
    pub sent_ns: Option<u64>,
    /// When something was received last.
    pub received_ns: Option<u64>,
    /// When the server last read something.
    pub served_ns: Option<u64>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Who connected, or (if that was not seen) sent first.
    pub owner: Option<Process>,
    /// Who reads or writes at the accepted end; None if nobody has been seen to.
    pub server: Option<Process>,
    /// Answers read so far.
    pub exchanges: u32,
    /// Something was sent since the last read.
    pub pending: bool,
    /// The path is the one that the listener is bound to: what was dialled was not seen.
    pub preexisting: bool,
    /// The accepted end was closed, or shut down, by a process that lived.
    pub server_closed: bool,
    /// The owner also reads from accepted connections.
    pub owner_accepts: bool,
    /// Who called listen(2).
    pub listener_tgid: Option<u32>,
    pub netns: u32,
    /// As in [`super::Target::Unix`]; empty if it is not known.
    pub path: String,
}

/// How an end was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnixHow {
    /// A read found the end of the stream.
    EndOfStream,
    /// A read found the connection reset: the other end left something unread.
    Reset,
    /// A write found that the other end had gone.
    Broken,
    /// The owner closed.
    Closed,
    /// The server wrote, and the owner had gone without a close that was seen.
    OwnerGone,
}

/// A socket that connected has ended, or was left by the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixEnd {
    pub ktime_ns: u64,
    pub connection: UnixConnection,
    pub how: UnixHow,
    /// What the system call returned that noticed it, 0 if no error.
    pub errno: u32,
}

/// A process was found to serve Unix sockets; told once for each process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixServer {
    pub ktime_ns: u64,
    /// The first connection that it served.
    pub connection: UnixConnection,
}

/// None for a way to end that is not known.
pub(super) fn end(r: &wire::UnixEnd) -> Option<UnixEnd> {
    let how = match r.how {
        unix_how::END_OF_STREAM => UnixHow::EndOfStream,
        unix_how::RESET => UnixHow::Reset,
        unix_how::BROKEN => UnixHow::Broken,
        unix_how::CLOSED => UnixHow::Closed,
        unix_how::OWNER_GONE => UnixHow::OwnerGone,
        _ => return None,
    };
    Some(UnixEnd { ktime_ns: r.header.ktime_ns, connection: connection(&r.connection), how, errno: r.errno })
}

pub(super) fn server(r: &wire::UnixServer) -> UnixServer {
    UnixServer { ktime_ns: r.header.ktime_ns, connection: connection(&r.connection) }
}

fn connection(r: &wire::UnixConnection) -> UnixConnection {
    let has = |bit| r.flags & bit != 0;
    let known = |value: u64| (value != 0).then_some(value);
    // The path stands behind the family.
    let end = usize::try_from(r.path_len).unwrap_or(0).saturating_add(2).min(r.address.len());
    UnixConnection {
        ino: r.ino,
        opened_ns: known(r.opened_ns),
        sent_ns: known(r.sent_ns),
        received_ns: known(r.received_ns),
        served_ns: known(r.served_ns),
        bytes_sent: r.bytes_sent,
        bytes_received: r.bytes_received,
        owner: process(&r.owner),
        server: process(&r.server),
        exchanges: r.exchanges,
        pending: has(unix_flag::PENDING),
        preexisting: has(unix_flag::PREEXISTING),
        server_closed: has(unix_flag::SERVER_CLOSED),
        owner_accepts: has(unix_flag::OWNER_ACCEPTS),
        listener_tgid: (r.listener_tgid != 0).then_some(r.listener_tgid),
        netns: r.netns,
        path: path(r.address.get(2..end).unwrap_or_default()).unwrap_or_default(),
    }
}

/// Spells the name of a Unix socket: up to the first zero, but an abstract one (`@`) begins with one and may hold
/// more.
pub(super) fn path(bytes: &[u8]) -> Option<String> {
    match bytes {
        [] => None,
        [0, name @ ..] => Some(format!("@{}", String::from_utf8_lossy(name))),
        _ => {
            let path = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(String::from_utf8_lossy(path).into_owned())
        }
    }
}
