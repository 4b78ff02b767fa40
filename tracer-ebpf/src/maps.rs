//! The maps, and the few ways in which the programs use them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use tracer_ebpf::config::limit;
use tracer_ebpf::wire::tally;

/// A hint from one hook to the next on the same CPU: which socket it was for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hint {
    pub rst_received: u64,
    pub fin: u64,
    /// The process that was last found connecting, and until when that need not be noted again.
    pub owner: u64,
    pub owner_until: u64,
    /// Processes that were found reading from accepted connections, each where the last bits of its tgid say.
    pub readers: [u32; READERS],
}

/// Workers that take turns on one CPU, as a rule fewer.
pub const READERS: usize = 16;

const _: () = assert!(READERS.is_power_of_two());

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limit::RING_BYTES as u32, 0);

#[map]
static CONFIG: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static TALLY: PerCpuArray<u64> = PerCpuArray::with_max_entries(tally::COUNT, 0);

#[map]
static HINTS: PerCpuArray<Hint> = PerCpuArray::with_max_entries(1, 0);

/// tgid to flags of `owner_flag`: processes that own sockets.
#[map]
static OWNERS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(limit::OWNERS as u32, 0);

/// (netns << 32 | port) of listening sockets, for the snapshot only.
#[map]
pub static LISTEN_PORTS: HashMap<u64, u32> =
    HashMap::with_max_entries(limit::LISTEN_PORTS as u32, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// (local port << 16 | peer port) of the sockets that the agent wants to know of, filled before it looks.
#[map]
pub static ASKED: HashMap<u32, u32> =
    HashMap::with_max_entries(limit::ASKED as u32, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// Bits of the values of `OWNERS`.
pub mod owner_flag {
    pub const OWNS: u32 = 1;
    /// Reads from accepted connections.
    pub const ACCEPTS: u32 = 2;
    /// Has Unix sockets that are followed; by itself no reason to tell of its end.
    pub const UNIX: u32 = 4;
    /// Reads from accepted Unix sockets.
    pub const SERVES_UNIX: u32 = 8;
    /// Its end is told.
    pub const TOLD: u32 = OWNS | ACCEPTS;
}

#[inline(always)]
pub fn config() -> u32 {
    CONFIG.get(0).copied().unwrap_or(0)
}

/// Adds 1 to this CPU's entry of `TALLY`.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(cell) = TALLY.get_ptr_mut(index) {
        add(cell);
    }
}

/// This CPU's hints.
#[inline(always)]
pub fn hints() -> Option<*mut Hint> {
    HINTS.get_ptr_mut(0)
}

/// Adds 1 atomically: other CPUs count too, and a softirq may interrupt this program on its own CPU.
///
/// An intrinsic, since core offers no `fetch_add` for a target without compare-and-swap; it becomes the one
/// instruction `lock *(u64 *)p += 1`, which every kernel takes.
#[inline(always)]
pub fn add(counter: *mut u64) {
    // SAFETY: callers point into a map value, which is aligned and stays valid while the program runs.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}

#[inline(always)]
pub fn owner_flags(tgid: u32) -> u32 {
    // SAFETY: the value is one aligned u32; a recycled entry yields another process's flags, which only
    // ever widens what is reported.
    unsafe { OWNERS.get(tgid) }.copied().unwrap_or(0)
}

/// Remembers a process that connects as an owner of sockets, once a second on each CPU: a busy gateway costs one
/// comparison, and its place in the map stays fresh.
#[inline(always)]
pub fn remember_connecting(tgid: u32, now: u64) {
    let Some(hints) = hints() else { return };
    // SAFETY: this CPU's entry of a per-CPU array.
    let hints = unsafe { &mut *hints };
    if hints.owner == u64::from(tgid) && now < hints.owner_until {
        return;
    }
    remember_owner(tgid, owner_flag::OWNS);
    hints.owner = u64::from(tgid);
    hints.owner_until = now + 1_000_000_000;
}

/// Remembers a process as an owner of sockets.
#[inline(always)]
pub fn remember_owner(tgid: u32, flags: u32) {
    let known = owner_flags(tgid);
    if known & flags != flags {
        let _ = OWNERS.insert(tgid, known | flags, 0);
    }
}
