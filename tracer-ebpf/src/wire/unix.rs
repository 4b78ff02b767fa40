//! Records of the groups `connect-errors` and `unix`: connects that left no trace in TCP, and what is known of Unix
//! stream sockets.

#[cfg(feature = "bytes")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Header, Task};

/// Bits of [`ConnectError::flags`].
pub mod connect_flag {
    /// The owner also reads from accepted connections: a gateway.
    pub const OWNER_ACCEPTS: u32 = 1 << 0;
}

/// Bits of [`UnixConnection::flags`].
pub mod unix_flag {
    /// Something was sent since the last read.
    pub const PENDING: u32 = 1 << 0;
    /// It connected unseen: the path is the one that the listener is bound to, not the one that was dialled.
    pub const PREEXISTING: u32 = 1 << 1;
    /// A process closed the accepted end, or shut it down, while it lived.
    pub const SERVER_CLOSED: u32 = 1 << 2;
    /// The owner also reads from accepted connections: a gateway.
    pub const OWNER_ACCEPTS: u32 = 1 << 3;
    /// Its end was told.
    pub const TOLD: u32 = 1 << 4;
}

/// Values of [`UnixEnd::how`].
pub mod unix_how {
    /// A read found the end of the stream.
    pub const END_OF_STREAM: u32 = 1;
    /// A read found the connection reset: the other end left something unread.
    pub const RESET: u32 = 2;
    /// A write found that the other end had gone.
    pub const BROKEN: u32 = 3;
    /// The owner closed.
    pub const CLOSED: u32 = 4;
    /// The server wrote, and the owner had gone without a close that was seen.
    pub const OWNER_GONE: u32 = 5;
}

/// connect(2) of a TCP or Unix stream socket returned an error. One that the change of state has told already is
/// left out, where that can be known.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectError {
    pub header: Header,
    pub owner: Task,
    pub skaddr: u64,
    pub errno: u32,
    /// The owner's network namespace.
    pub netns: u32,
    /// Bits of `connect_flag`.
    pub flags: u32,
    /// Bytes of `address`; 0 if it could not be read.
    pub address_len: u32,
    /// `struct sockaddr_in`, `_in6` or `_un`, as the process gave it.
    pub address: [u8; 112],
}

/// What is known of a Unix stream socket that connected.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixConnection {
    /// Inode number of its file.
    pub ino: u64,
    /// 0 if it connected unseen.
    pub opened_ns: u64,
    /// When something was sent last.
    pub sent_ns: u64,
    /// When something was received last.
    pub received_ns: u64,
    /// When the server read something last.
    pub served_ns: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// The process that connected, or (if that was not seen) sent first.
    pub owner: Task,
    /// The process that last took over reading or writing at the accepted end.
    pub server: Task,
    pub exchanges: u32,
    /// Bits of `unix_flag`.
    pub flags: u32,
    /// The process that called listen(2), where it is known.
    pub listener_tgid: u32,
    pub netns: u32,
    /// Bytes of the path; 0 if it is not known.
    pub path_len: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
    /// `struct sockaddr_un`: the path stands behind two bytes of family.
    pub address: [u8; 112],
}

/// A Unix stream socket that connected has ended, or was left by the other end.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UnixEnd {
    pub header: Header,
    pub connection: UnixConnection,
    pub skaddr: u64,
    /// One of `unix_how`.
    pub how: u32,
    /// What the system call that found it returned, 0 if no error.
    pub errno: u32,
}

/// A process serves the Unix sockets of a path: told once for each process.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UnixServer {
    pub header: Header,
    /// The first connection that it was found to serve.
    pub connection: UnixConnection,
}

impl Default for ConnectError {
    fn default() -> Self {
        Self {
            header: Header::default(),
            owner: Task::default(),
            skaddr: 0,
            errno: 0,
            netns: 0,
            flags: 0,
            address_len: 0,
            address: [0; 112],
        }
    }
}

impl Default for UnixConnection {
    fn default() -> Self {
        Self {
            ino: 0,
            opened_ns: 0,
            sent_ns: 0,
            received_ns: 0,
            served_ns: 0,
            bytes_sent: 0,
            bytes_received: 0,
            owner: Task::default(),
            server: Task::default(),
            exchanges: 0,
            flags: 0,
            listener_tgid: 0,
            netns: 0,
            path_len: 0,
            reserved: 0,
            address: [0; 112],
        }
    }
}

const _: () = assert!(size_of::<ConnectError>() == 216);
const _: () = assert!(size_of::<UnixConnection>() == 320);
const _: () = assert!(size_of::<UnixServer>() == 336);
const _: () = assert!(size_of::<UnixEnd>() == 352);
