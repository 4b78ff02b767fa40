//! Who may use what is left of the ring.
//!
//! While the ring has room, everyone may queue. When it runs full, what is left of it is kept for those who have
//! hardly queued anything in the present second: one upstream that breaks ten thousand times must not hide the first
//! break of another. What is turned away is counted like what finds the ring full.

use aya_ebpf::bindings::BPF_RB_AVAIL_DATA;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use tracer_ebpf::config::limit;

use crate::kread::Sk;
use crate::maps::EVENTS;

/// Above this fill the ends of healthy connections, which are detail, find no room.
const DETAIL_END: u64 = limit::RING_BYTES as u64 / 2;
/// Above this fill an origin finds room for [`FEW`] records in a second.
const FEW_BEGIN: u64 = limit::RING_BYTES as u64 / 4 * 3;
/// Above this fill an origin finds room for one record in a second.
const ONE_BEGIN: u64 = limit::RING_BYTES as u64 / 16 * 15;
const FEW: u32 = 8;
/// A second is 2^30 ns here, which needs no division.
const SECOND_SHIFT: u64 = 30;

/// Where a record comes from: a hash of the upstream's address, or the kind of a record that has none.
#[derive(Clone, Copy)]
pub struct Origin(u32);

/// What one origin offered in one second. Two origins may have the same place; then the later one takes it and begins
/// anew, so that a noisy one never speaks for a quiet one. Not exact under a race of two CPUs, and need not be.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Share {
    origin: u32,
    second: u32,
    offered: u32,
    reserved: u32,
}

#[map]
static SHARES: Array<Share> = Array::with_max_entries(limit::SHARES as u32, 0);

impl Origin {
    /// Of what belongs to no upstream.
    #[inline(always)]
    pub fn kind(kind: u16) -> Self {
        Self(mixed(u32::from(kind), 0))
    }

    /// The upstream that a socket has connected to.
    #[inline(always)]
    pub fn dialled(sk: &Sk) -> Self {
        let mut address = [0; 16];
        sk.peer_address(&mut address);
        Self::address(&address, sk.peer_port())
    }

    /// The upstream that an accepted socket belongs to: the same address, seen from there.
    #[inline(always)]
    pub fn accepted(sk: &Sk, local_port: u16) -> Self {
        let mut address = [0; 16];
        sk.local_address(&mut address);
        Self::address(&address, local_port)
    }

    /// The socket's path.
    #[inline(always)]
    pub fn path(path: &[u8; 112]) -> Self {
        Self::words(path, 0)
    }

    #[inline(always)]
    fn address(address: &[u8; 16], port: u16) -> Self {
        Self::words(address, u32::from(port))
    }

    #[inline(always)]
    fn words(bytes: &[u8], seed: u32) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        Self(hash(seed, words.iter().map(|word| u32::from_ne_bytes(*word))))
    }

    /// Its place, which another may have taken.
    #[inline(always)]
    fn share(self) -> Option<*mut Share> {
        SHARES.get_ptr_mut(self.0 & (limit::SHARES as u32 - 1))
    }
}

/// A hash of words.
#[inline(always)]
pub fn hash(seed: u32, words: impl Iterator<Item = u32>) -> u32 {
    words.fold(seed, mixed)
}

#[inline(always)]
fn mixed(hash: u32, word: u32) -> u32 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b1);
    mixed ^ (mixed >> 15)
}

#[inline(always)]
fn second(ktime_ns: u64) -> u32 {
    (ktime_ns >> SECOND_SHIFT) as u32
}

/// Whether a record of `origin` may be queued at `ktime_ns`, if there is room.
#[inline(always)]
pub fn admits(origin: Origin, ktime_ns: u64) -> bool {
    let Some(share) = origin.share() else { return true };
    // SAFETY: a value of an array map, which is never freed; see `Share` about races.
    let share = unsafe { &mut *share };
    let second = second(ktime_ns);
    if share.origin != origin.0 || share.second != second {
        share.origin = origin.0;
        share.second = second;
        share.offered = 0;
    }
    share.offered = share.offered.saturating_add(1);
    let used = used();
    used < FEW_BEGIN || share.offered <= if used < ONE_BEGIN { FEW } else { 1 }
}

/// Whether `origin` has offered that many records in the present second.
#[inline(always)]
pub fn has_offered(origin: Origin, count: u32) -> bool {
    let Some(share) = origin.share() else { return false };
    // SAFETY: a value of an array map, which is never freed; see `Share` about races.
    let share = unsafe { &*share };
    // SAFETY: the helper only reads the clock.
    let now = second(unsafe { bpf_ktime_get_ns() });
    share.origin == origin.0 && share.second == now && share.offered >= count
}

/// Whether there is room for detail.
#[inline(always)]
pub fn admits_detail() -> bool {
    used() < DETAIL_END
}

#[inline(always)]
fn used() -> u64 {
    EVENTS.query(u64::from(BPF_RB_AVAIL_DATA))
}

const _: () = assert!(limit::SHARES.is_power_of_two());
