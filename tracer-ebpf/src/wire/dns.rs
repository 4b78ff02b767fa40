//! Records of the group `dns`: a query that was sent to a resolver, and the header of what came back.

#[cfg(feature = "bytes")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Header, Task, Tuple};

/// Bytes of a name at most (RFC 1035, 2.3.4), and one more.
pub const NAME_BYTES: usize = 256;

/// Bits of [`DnsQuery::flags`].
pub mod flag {
    /// The owner also reads from accepted connections: a gateway.
    pub const OWNER_ACCEPTS: u32 = 1 << 0;
}

/// A name as it stands in a message: labels, each after its length, up to the empty one. Zero behind it.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u8; NAME_BYTES]);

/// A query was sent over UDP, or could not be.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsQuery {
    pub header: Header,
    pub cookie: u64,
    pub owner: Task,
    /// `peer` is the resolver; `local` is all zero if the socket is bound to no address.
    pub tuple: Tuple,
    /// The thread that asked.
    pub thread: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Of the system call; 0 if it was sent.
    pub errno: u32,
    /// From the header, with which the answer comes back.
    pub id: u16,
    /// QTYPE of RFC 1035: 1 is A, 28 is AAAA.
    pub query_type: u16,
    pub name: Name,
}

/// A socket that had asked received a message, or an error.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsAnswer {
    pub header: Header,
    pub cookie: u64,
    /// Of the system call; if it is not 0 there was no message, and the rest is 0.
    pub errno: u32,
    pub id: u16,
    /// Second word of the header: QR, opcode, AA, TC, RD, RA, Z, RCODE.
    pub bits: u16,
    /// Records in the answer section.
    pub answers: u16,
    /// Keeps the size a multiple of eight.
    pub reserved: [u16; 3],
}

impl Default for Name {
    fn default() -> Self {
        Self([0; NAME_BYTES])
    }
}

const _: () = assert!(size_of::<DnsQuery>() == 400);
const _: () = assert!(size_of::<DnsAnswer>() == 40);
