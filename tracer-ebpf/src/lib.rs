//! The contract between the kernel programs and the agent: the records of the ring buffer, the keys and
//! values of the maps, and the list of kernel members that the programs read.
//!
//! Nothing in here knows aya or the standard library, so both sides compile the very same definitions.
#![cfg_attr(not(test), no_std)]

pub mod config;
pub mod offsets;
pub mod wire;

/// The kernel's `TCP_*` socket states, from include/net/tcp_states.h; they are part of the kernel's
/// stable interface (`INET_DIAG` hands them out).
pub mod tcp_state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
    pub const NEW_SYN_RECV: u8 = 12;
}

/// Errors that the kernel says to itself as it does to programs (include/uapi/asm-generic/errno.h).
pub mod errno {
    pub const EINTR: u32 = 4;
    pub const EAGAIN: u32 = 11;
    pub const EPIPE: u32 = 32;
    pub const ECONNRESET: u32 = 104;
    pub const ETIMEDOUT: u32 = 110;
    pub const ECONNREFUSED: u32 = 111;
}

/// Bytes of the longest goodbye: TLS's close_notify (24 to 31 with today's ciphers, 53 with the old CBC ones). A healthy
/// close may leave as much unread.
pub const LONGEST_GOODBYE: u32 = 53;
