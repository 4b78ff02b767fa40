//! What is counted of each upstream: connections, resets, FINs, and what is learned from times.
//!
//! An upstream's counters have a place in an array. A connection looks up once which one, by the address that it dialled,
//! and remembers it: the next times cost a comparison.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_NOEXIST};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, Stack};
use tracer_ebpf::config::limit;
use tracer_ebpf::wire::{UpstreamAges, UpstreamCounters, UpstreamKey, UpstreamPlace, tally};

use crate::kread::Sk;
use crate::maps;
use crate::marks::Memory;

/// The place of those that find none.
const OTHER: u32 = 0;

/// An upstream's index in `PLACES`.
#[map]
static UPSTREAMS: HashMap<UpstreamKey, u32> = HashMap::with_max_entries(limit::UPSTREAMS as u32, 0);

/// (What may be mapped begins at the start of a page, so that each place has cache lines of its own.)
#[map]
static PLACES: Array<UpstreamPlace> = Array::with_max_entries(limit::UPSTREAMS as u32 + 1, BPF_F_MMAPABLE);

/// Places that nobody has; the agent fills it at the start, and gives back those of upstreams that expire.
#[map]
static FREE_PLACES: Stack<u32> = Stack::with_max_entries(limit::UPSTREAMS as u32, 0);

/// How many places the programs have given away, and how many of them the agent has taken back since.
#[map]
static UPSTREAMS_MADE: Array<u64> = Array::with_max_entries(1, 0);

#[map]
static UPSTREAMS_EXPIRED: Array<u64> = Array::with_max_entries(1, 0);

/// Adds 1 to the counter of the socket's upstream that `which` chooses.
#[inline(always)]
pub fn count(sk: &Sk, memory: &mut Memory, which: impl FnOnce(&mut UpstreamCounters) -> *mut u64) {
    count_in(sk, memory, true, which);
}

/// The same for a connection that was never established.
#[inline(always)]
pub fn count_silent(sk: &Sk, memory: &mut Memory, which: impl FnOnce(&mut UpstreamCounters) -> *mut u64) {
    count_in(sk, memory, false, which);
}

/// The same for a connection that `answered`, or did not: an upstream that never did finds all places taken earlier, since
/// the last ones are kept from port scans.
#[inline(always)]
pub fn count_in(
    sk: &Sk,
    memory: &mut Memory,
    answered: bool,
    which: impl FnOnce(&mut UpstreamCounters) -> *mut u64,
) {
    let mut key = UpstreamKey::default();
    sk.upstream_key(&mut key);
    let place = remembered(memory, &key).or_else(|| {
        memory.upstream = find(&key).unwrap_or_else(|| make(&key, answered));
        if memory.upstream == OTHER {
            maps::count(tally::UPSTREAM_OVERFLOW);
        }
        PLACES.get_ptr_mut(memory.upstream)
    });
    if let Some(place) = place {
        // SAFETY: a value of an array map, which is never freed; only the address of a counter is taken.
        maps::add(which(unsafe { &mut (*place).counters }));
    }
}

/// What is learned of the socket's upstream, if that has been counted before. Not of those that have no place: of many at
/// once nothing can be learned.
#[inline(always)]
pub fn ages<'a>(sk: &Sk, memory: &Memory) -> Option<&'a mut UpstreamAges> {
    let mut key = UpstreamKey::default();
    sk.upstream_key(&mut key);
    let place = remembered(memory, &key).or_else(|| PLACES.get_ptr_mut(find(&key)?))?;
    // SAFETY: a value of an array map, which is never freed; see `ages` about races.
    Some(unsafe { &mut (*place).counters.ages })
}

/// The place that a connection remembers, if it still is its upstream's.
#[inline(always)]
fn remembered(memory: &Memory, key: &UpstreamKey) -> Option<*mut UpstreamPlace> {
    // SAFETY: a value of an array map, which is never freed.
    PLACES.get_ptr_mut(memory.upstream).filter(|place| same(unsafe { &(**place).key }, key))
}

#[inline(always)]
fn find(key: &UpstreamKey) -> Option<u32> {
    // SAFETY: the value is one aligned u32; that of an entry which is used again is found wrong by its key.
    unsafe { UPSTREAMS.get(key) }.copied()
}

/// Gives an upstream a place.
#[inline(always)]
fn make(key: &UpstreamKey, answered: bool) -> u32 {
    if !answered && !has_room_for_silent() {
        return OTHER;
    }
    let Ok(Some(index)) = FREE_PLACES.pop() else { return OTHER };
    let Some(place) = PLACES.get_ptr_mut(index) else { return OTHER };
    // SAFETY: a value of an array map, which nobody else has: it was free.
    unsafe { (*place).key = *key };
    if UPSTREAMS.insert(key, index, u64::from(BPF_NOEXIST)).is_ok() {
        if let Some(made) = UPSTREAMS_MADE.get_ptr_mut(0) {
            maps::add(made);
        }
        return index;
    }
    // Another CPU has made it at the same time.
    // SAFETY: as above.
    unsafe { (*place).key = UpstreamKey::default() };
    let _ = FREE_PLACES.push(index, 0);
    find(key).unwrap_or(OTHER)
}

#[inline(always)]
fn has_room_for_silent() -> bool {
    let (Some(made), Some(expired)) = (UPSTREAMS_MADE.get(0), UPSTREAMS_EXPIRED.get(0)) else { return true };
    made.wrapping_sub(*expired) < limit::SILENT_UPSTREAMS as u64
}

/// By words: there is no `memcmp` to call.
#[inline(always)]
fn same(a: &UpstreamKey, b: &UpstreamKey) -> bool {
    let words = |key: &UpstreamKey| {
        let (words, _) = key.address.as_chunks::<4>();
        [words[0], words[1], words[2], words[3]].map(u32::from_ne_bytes)
    };
    a.port == b.port && a.netns == b.netns && words(a) == words(b)
}
