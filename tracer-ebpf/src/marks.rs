//! What is remembered of a socket that connected, from connect(2) until it closes.
//!
//! It lies in a slot: a place in an array, found by the socket's cookie. The kernel gives cookies out one after the
//! other, so the next connections have the next places, and nothing is allocated or hashed for them. A slot is given
//! back when its socket closes, and its last mark can be found until another socket takes the place. Whoever finds
//! it taken by a socket that lives, which only long connections bring about, gets socket storage (`bpf_sk_storage_get`),
//! which takes some twenty times as long to make.
//!
//! A socket without a cookie has no mark: one load tells it for nearly every accepted socket.

use core::ptr;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_probe_read_kernel};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::Array;
use tracer_ebpf::config::limit;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{Task, tally};

use crate::globals::{self, offset};
use crate::kread::Sk;
use crate::maps::count;

/// What is remembered of a socket that connected. In a slot, what changes lies in one cache line, and the owner, who is
/// looked at once more if there is something to tell, in the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mark {
    pub opened_ns: u64,
    pub memory: Memory,
    /// Fills the cache line.
    pub reserved: u64,
    pub owner: Task,
}

/// The part that changes while the connection lives.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub first_seq: u32,
    pub read_mark: u32,
    pub retrans_mark: u32,
    pub exchanges: u32,
    /// `phase` when it left ESTABLISHED.
    pub phase: u32,
    /// Bits of `mark_flag`.
    pub flags: u32,
    /// What ICMP said while it was connecting; 0: nothing.
    pub icmp_err: u32,
    /// Its upstream's index in `PLACES`; 0: not known yet.
    pub upstream: u32,
}

/// Bits of [`Memory::flags`].
pub mod mark_flag {
    pub const PREEXISTING: u32 = 1;
    /// `read_mark` is known (always, but for what existed before the start and has not been read since).
    pub const MARKED: u32 = 2;
    /// An end of this connection was queued, so its RST belongs to the story.
    pub const REPORTED: u32 = 4;
}

/// A copy of what has to be known of a mark to judge an end.
#[derive(Clone, Copy)]
pub struct Recalled {
    pub opened_ns: u64,
    /// The owner's tgid.
    pub owner: u32,
    pub memory: Memory,
}

/// A place for the mark of one socket at a time.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    /// Whose the mark is.
    cookie: u64,
    /// 0 once that socket has closed.
    skaddr: u64,
    mark: Mark,
}

/// (What may be mapped begins at the start of a page, so that each slot has two cache lines of its own.)
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(limit::SLOTS as u32, BPF_F_MMAPABLE);

/// Marks of sockets that found their slot taken, and of those that were there before the programs. Freed with the socket.
#[btf_map]
static MARKS: SkStorage<Mark> = SkStorage::new();

/// The mark of a socket that connected; none for every other.
#[inline(always)]
pub fn mark(sk: &Sk) -> Option<*mut Mark> {
    let cookie = sk.cookie();
    if cookie == 0 {
        return None;
    }
    if let Some(slot) = own_slot(cookie) {
        // SAFETY: a value of an array map, which is never freed.
        return Some(unsafe { &raw mut (*slot).mark });
    }
    if sk.has_storage() { storage(sk, ptr::null_mut(), 0) } else { None }
}

/// A copy of a mark, for those who do much with it while they hold the socket's lock: the verifier looks at all that is
/// done with a pointer once for each kind of place that it can point to.
#[inline(always)]
pub fn recall(sk: &Sk) -> Option<Recalled> {
    let mark = mark(sk)?;
    // SAFETY: the mark of a live socket. Volatile, so that nothing is read again later, from where it lies.
    unsafe {
        Some(Recalled {
            opened_ns: ptr::read_volatile(&raw const (*mark).opened_ns),
            owner: ptr::read_volatile(&raw const (*mark).owner.tgid),
            memory: ptr::read_volatile(&raw const (*mark).memory),
        })
    }
}

/// Writes back what was changed of a copy.
#[inline(always)]
pub fn keep(sk: &Sk, memory: &Memory) {
    if let Some(mark) = mark(sk) {
        // SAFETY: the mark of a live socket.
        unsafe { (*mark).memory = *memory };
    }
}

/// Gives a socket that connects, and that `current` holds, a place for its mark, which holds anything.
///
/// Two CPUs that find the same slot free at the same moment both write to it, and one of the two sockets is left
/// without a mark; for that, as many connections as there are slots must have begun within those few nanoseconds,
/// or a CPU must stand where another one stands in a batch of cookies (4,096 each, `gen_cookie_next`).
#[inline(always)]
pub fn place(sk: &Sk) -> Option<*mut Mark> {
    // SAFETY: the helper reads the cookie, or makes one.
    let cookie = unsafe { bpf_get_socket_cookie(sk.as_ptr().cast_mut()) };
    if let Some(slot) = slot(cookie) {
        // SAFETY: a value of an array map, which is never freed.
        let slot = unsafe { &mut *slot };
        if slot.skaddr == 0 || slot.cookie == cookie || !lives(slot) {
            slot.cookie = cookie;
            slot.skaddr = sk.address();
            return Some(&raw mut slot.mark);
        }
    }
    count(tally::SLOT_TAKEN);
    counted(storage(sk, ptr::null_mut(), u64::from(BPF_SK_STORAGE_GET_F_CREATE)))
}

/// Gives a socket that existed before its mark, whole from the first moment: its owner may be using it.
#[inline(always)]
pub fn note_existing(sk: &Sk, mark: &mut Mark) {
    // A mark is only looked for where there is a cookie.
    // SAFETY: the helper reads the cookie, or makes one.
    unsafe { bpf_get_socket_cookie(sk.as_ptr().cast_mut()) };
    counted(storage(sk, mark, u64::from(BPF_SK_STORAGE_GET_F_CREATE)));
}

/// The socket has closed: the next one may have its slot.
#[inline(always)]
pub fn give_back(sk: &Sk) {
    let cookie = sk.cookie();
    if cookie != 0
        && let Some(slot) = own_slot(cookie)
    {
        // SAFETY: a value of an array map, which is never freed.
        unsafe { (*slot).skaddr = 0 };
    }
}

/// The slot in which the mark of the socket with this cookie is.
#[inline(always)]
fn own_slot(cookie: u64) -> Option<*mut Slot> {
    // SAFETY: a value of an array map, which is never freed.
    slot(cookie).filter(|slot| unsafe { (**slot).cookie } == cookie)
}

/// The slot of a cookie, which another socket may have.
#[inline(always)]
fn slot(cookie: u64) -> Option<*mut Slot> {
    SLOTS.get_ptr_mut(cookie as u32 & (limit::SLOTS as u32 - 1))
}

/// Whether the socket in a slot still is one. Its closing goes unseen when the kernel skips the program
/// (`recursion_misses`): then the place is free all the same. Where memory may not be read by address (lockdown), such
/// a slot is lost until the next start.
#[inline(always)]
fn lives(slot: &Slot) -> bool {
    if !globals::may_read_memory() {
        return true;
    }
    let member = |offset: usize| (slot.skaddr as *const u8).wrapping_add(offset);
    // SAFETY: the helper checks the address and fails for one that is not mapped.
    let cookie = unsafe { bpf_probe_read_kernel(member(offset!(skc_cookie)).cast::<u64>()) };
    // SAFETY: as above.
    let state = unsafe { bpf_probe_read_kernel(member(offset!(skc_state))) };
    // What has been freed and is not used again yet keeps its cookie, and is closed.
    cookie == Ok(slot.cookie) && state != Ok(s::CLOSE)
}

#[inline(always)]
fn storage(sk: &Sk, value: *mut Mark, flags: u64) -> Option<*mut Mark> {
    // SAFETY: `sk` is a socket that the kernel handed to the hook; the helper checks the rest.
    let found = unsafe {
        bpf_sk_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            sk.as_ptr().cast_mut().cast(),
            value.cast(),
            flags,
        )
    };
    if found.is_null() { None } else { Some(found.cast()) }
}

/// Counts what could not be allocated.
#[inline(always)]
fn counted(made: Option<*mut Mark>) -> Option<*mut Mark> {
    if made.is_none() {
        count(tally::STORAGE_FAILED);
    }
    made
}

const _: () = assert!(limit::SLOTS.is_power_of_two());
const _: () = assert!(size_of::<Slot>() == 128);
