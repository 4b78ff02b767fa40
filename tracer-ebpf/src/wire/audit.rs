//! What the programs saw of the events that the kernel counts itself, by network namespace.

#[cfg(feature = "bytes")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Indices of [`Namespace::seen`], in the order of the kernel's counters with the same names (/proc/net/snmp and
/// /proc/net/netstat).
pub mod seen {
    pub const OUT_RSTS: u32 = 0;
    pub const ESTAB_RESETS: u32 = 1;
    pub const ATTEMPT_FAILS: u32 = 2;
    pub const ABORT_ON_DATA: u32 = 3;
    pub const ABORT_ON_CLOSE: u32 = 4;
    pub const ABORT_ON_TIMEOUT: u32 = 5;
    pub const ABORT_ON_LINGER: u32 = 6;
    pub const ABORT_ON_MEMORY: u32 = 7;
    pub const COUNT: usize = 8;
}

/// Value of the map `NAMESPACES`. Its key is the namespace's cookie, which no other namespace gets again, unlike the
/// inode number.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Only ever added to, atomically.
    pub seen: [u64; seen::COUNT],
    pub inum: u32,
    /// A thread in it, as of the look below; 0: none was found yet.
    pub tid: u32,
    /// The last look at all threads that found one in it; before that, the one that it was made after.
    pub look: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Number of `u64` in [`Namespace`].
pub const NAMESPACE_WORDS: usize = size_of::<Namespace>() / 8;
const _: () = assert!(NAMESPACE_WORDS == 10);
