//! What the programs count: by upstream, and of themselves.

use core::mem::offset_of;

#[cfg(feature = "bytes")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of the map `UPSTREAMS`: an address that a process of this namespace dialled. All zero: the ones that
/// found no place, or a place that nobody has.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamKey {
    pub address: [u8; 16],
    pub netns: u32,
    pub port: u32,
}

/// Indices of [`UpstreamCounters::connections`].
pub mod outcome {
    pub const ESTABLISHED: usize = 0;
    pub const REFUSED: usize = 1;
    pub const TIMED_OUT: usize = 2;
    pub const UNREACHABLE: usize = 3;
    pub const ABANDONED: usize = 4;
    pub const COUNT: usize = 5;
}

/// How far a connection had come: last index of the reset and FIN counters.
pub mod phase {
    /// Not established.
    pub const CONNECT: usize = 0;
    /// Established, nothing written.
    pub const UNUSED: usize = 1;
    /// A request without an answer.
    pub const PENDING: usize = 2;
    /// Nothing owed.
    pub const ANSWERED: usize = 3;
    pub const COUNT: usize = 4;
}

/// Idle closes that are remembered of an upstream.
pub const IDLE_AGES: usize = 8;

/// What is learned of an upstream from times, all in jiffies. Overwritten in place.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamAges {
    /// The slowest answer of the present window; 0: none took 50 ms.
    pub slowest: u32,
    /// The same of the window before.
    pub slowest_before: u32,
    /// When the present window began (low 32 bits).
    pub window_began: u32,
    /// 1 if a connection has been used twice.
    pub reused: u32,
    /// Time without data after which it closed kept connections: the last ones, as a ring. 0: none yet.
    pub idle: [u32; IDLE_AGES],
    /// How many have been written to the ring.
    pub next_idle: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// But for the ages only ever added to, atomically. See [`UpstreamPlace`] for the order.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamCounters {
    pub resets_sent: [u64; phase::COUNT],
    /// Ends that were to be judged and found no room in the ring.
    pub unclassified: u64,
    pub fins_received: [u64; phase::COUNT],
    pub resets_received: [u64; phase::COUNT],
    pub connections: [u64; outcome::COUNT],
    pub fins_sent: [u64; phase::COUNT],
    pub ages: UpstreamAges,
}

/// Value of the map `PLACES`, whose first is that of all that found none.
///
/// Four cache lines. The first is read with each count and seldom written. What the other end does, which comes on
/// whatever CPU its segments come to, is counted in the second; what the owner does, on its own CPU, in the next two.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamPlace {
    pub key: UpstreamKey,
    pub counters: UpstreamCounters,
}

const _: () = assert!(offset_of!(UpstreamPlace, counters.fins_received) == CACHE_LINE);
const _: () = assert!(offset_of!(UpstreamPlace, counters.connections) == 2 * CACHE_LINE);
const CACHE_LINE: usize = 64;

/// Key of the map `ALIKE`, whose values count connects that failed like others of which records were queued just
/// before, and that got none themselves.
#[repr(C)]
#[cfg_attr(feature = "bytes", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AlikeKey {
    pub upstream: UpstreamKey,
    /// A hash of who connected, the error, and what is noted of the segments; never 0.
    pub shape: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Number of `u64` in [`UpstreamPlace`].
pub const PLACE_WORDS: usize = size_of::<UpstreamPlace>() / 8;
const _: () = assert!(PLACE_WORDS == 32);
const _: () = assert!(size_of::<UpstreamKey>() == 24);
const _: () = assert!(size_of::<AlikeKey>() == 32);

/// Indices of the per-CPU map `TALLY`, besides the two tables that count by record kind.
pub mod tally {
    /// Records queued: + kind.
    pub const QUEUED: u32 = 0;
    /// Records that found the ring full: + kind.
    pub const LOST: u32 = QUEUED + super::super::kind::COUNT;
    /// RSTs sent by no socket (nothing listens there).
    pub const NO_SOCKET_RESETS: u32 = LOST + super::super::kind::COUNT;
    /// Upstreams counted under the all-zero key.
    pub const UPSTREAM_OVERFLOW: u32 = NO_SOCKET_RESETS + 1;
    /// Socket storage that could not be allocated.
    pub const STORAGE_FAILED: u32 = UPSTREAM_OVERFLOW + 1;
    /// Events and threads in network namespaces that found no place in `NAMESPACES`.
    pub const NAMESPACE_OVERFLOW: u32 = STORAGE_FAILED + 1;
    /// Connections that found their slot taken and got socket storage.
    pub const SLOT_TAKEN: u32 = NAMESPACE_OVERFLOW + 1;
    pub const COUNT: u32 = SLOT_TAKEN + 1;
}
