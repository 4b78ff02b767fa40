//! The values of `sk_err` that tables and rules ask for (include/uapi/asm-generic/errno.h; the same on x86_64 and
//! arm64).

/// A RST that came when the peer had closed already.
pub const EPIPE: u32 = 32;
/// Only `tcp_abort` sets it (`SOCK_DESTROY`).
pub const ECONNABORTED: u32 = 103;
pub const ETIMEDOUT: u32 = 110;
pub const ECONNREFUSED: u32 = 111;
