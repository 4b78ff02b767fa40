//! What the kernel counts itself, counted once more from what the hooks see, by network namespace. The agent compares
//! the two: an event that a hook missed shows as a gap.
//!
//! Only ends that are out of the ordinary come here, so the map costs a healthy connection nothing.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use tracer_ebpf::config::limit;
use tracer_ebpf::errno::ETIMEDOUT;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{Namespace, seen, tally};

use crate::globals::{self, AbortReason};
use crate::kread::{NetRef, Sk, Skb, TaskRef};
use crate::maps;

/// `SHUTDOWN_MASK` of include/net/sock.h: what close(2) sets first of all.
const SHUTDOWN_MASK: u8 = 3;

/// By [`NetRef::cookie`].
#[map]
static NAMESPACES: HashMap<u64, Namespace> = HashMap::with_max_entries(limit::NAMESPACES as u32, 0);

/// The number of the present look at all threads, written by the agent.
#[map]
static LOOK: Array<u32> = Array::with_max_entries(1, 0);

/// A RST is sent: OutRsts, and those TCPAbortOn* that are counted together with one.
///
/// `tcp_send_active_reset` counts OutRsts before it sends and the tracepoint fires afterwards, but not where it found
/// no memory. `tcp_v[46]_send_reset` fires first; over IPv6 a RST without a route is not counted. Before Linux 6.10
/// the tracepoint is silent without a full socket; then [`reset_without_socket`] is called by `notes`.
#[inline(always)]
pub fn reset_sent(sk: *const c_void, skb: *const c_void, is_answer: bool, reason: u32) {
    let sk = Sk::new(sk);
    // (On some kernels the null check is optimised away; such a socket reads as state 0.)
    let Some(sk) = sk.filter(|sk| sk.state() != 0) else {
        if let Some(skb) = Skb::new(skb) {
            reset_without_socket(&skb);
        }
        return;
    };
    let net = sk.net();
    if globals::outside(|| net.inum()) {
        return;
    }
    count(&net, seen::OUT_RSTS);
    let abort = if sk.state() == s::CLOSE { aborted(&sk, is_answer, reason) } else { by_reason(reason) };
    if let Some(abort) = abort {
        count(&net, abort);
    }
}

/// A RST that no socket sends.
#[inline(always)]
pub fn reset_without_socket(skb: &Skb) {
    let net = skb.net();
    if !globals::outside(|| net.inum()) {
        count(&net, seen::OUT_RSTS);
    }
}

/// Which abort goes with the RST of a socket that has just been closed (`__tcp_close`, `tcp_rcv_state_process`).
#[inline(always)]
fn aborted(sk: &Sk, is_answer: bool, reason: u32) -> Option<u32> {
    // Data came for what its owner had closed.
    if is_answer {
        return Some(seen::ABORT_ON_DATA);
    }
    // connect(AF_UNSPEC), and connections that nobody accepted.
    if sk.shutdown() != SHUTDOWN_MASK {
        return None;
    }
    let tcp = sk.tcp()?;
    let unread = tcp.rcv_nxt().wrapping_sub(tcp.copied_seq());
    // A FIN takes a number too, unless the end of the stream was read.
    if unread > u32::from(sk.has_received_fin()) {
        return Some(seen::ABORT_ON_CLOSE);
    }
    if sk.lingers_zero() { Some(seen::ABORT_ON_DATA) } else { by_reason(reason) }
}

#[inline(always)]
fn by_reason(reason: u32) -> Option<u32> {
    match globals::abort_reason(reason) {
        AbortReason::Linger => Some(seen::ABORT_ON_LINGER),
        AbortReason::Memory => Some(seen::ABORT_ON_MEMORY),
        AbortReason::Other => None,
    }
}

/// A connection that was up is closed without a goodbye: EstabResets (`tcp_set_state`).
#[inline(always)]
pub fn torn_down(sk: &Sk) {
    let net = sk.net();
    count(&net, seen::ESTAB_RESETS);
    if has_timed_out(sk) {
        count(&net, seen::ABORT_ON_TIMEOUT);
    }
}

/// SYN_SENT is left for CLOSE. `tcp_done`, which counts AttemptFails, comes with an error; an owner who gives up
/// comes with none.
#[inline(always)]
pub fn connect_ended(sk: &Sk) {
    let net = sk.net();
    let err = sk.err();
    if err != 0 {
        count(&net, seen::ATTEMPT_FAILS);
        // (An ICMP error that came while the owner held the socket does not tell a later one from a timeout.)
        if err == ETIMEDOUT {
            count(&net, seen::ABORT_ON_TIMEOUT);
        }
    } else if sk.owned() && sk.shutdown() == SHUTDOWN_MASK && sk.lingers_zero() {
        count(&net, seen::ABORT_ON_DATA);
    }
}

/// A socket closes from another state: an accepted handshake that failed (AttemptFails), or a goodbye that nobody
/// answered (TCPAbortOnTimeout). Of the healthy, one member is read.
#[inline(always)]
pub fn ended_late(sk: &Sk, old_state: u8) {
    if old_state != s::SYN_RECV && sk.err() == 0 || !sk.is_tcp() {
        return;
    }
    let net = sk.net();
    if globals::outside(|| net.inum()) {
        return;
    }
    if old_state == s::SYN_RECV {
        count(&net, seen::ATTEMPT_FAILS);
    }
    if has_timed_out(sk) {
        count(&net, seen::ABORT_ON_TIMEOUT);
    }
}

/// `tcp_write_err` (net/ipv4/tcp_timer.c): ETIMEDOUT, or what ICMP had said meanwhile.
#[inline(always)]
fn has_timed_out(sk: &Sk) -> bool {
    let err = sk.err();
    err == ETIMEDOUT || err != 0 && err == sk.soft_err()
}

#[inline(always)]
fn count(net: &NetRef, index: u32) {
    let Some(namespace) = namespace(net) else {
        maps::count(tally::NAMESPACE_OVERFLOW);
        return;
    };
    // SAFETY: a map value, which stays valid while the program runs; only the address of a counter is taken.
    maps::add(unsafe { (&raw mut (*namespace).seen).cast::<u64>().add(index as usize) });
}

/// Its entry, made on first use; None once the map is full.
#[inline(always)]
fn namespace(net: &NetRef) -> Option<*mut Namespace> {
    let cookie = net.cookie();
    if let Some(found) = NAMESPACES.get_ptr_mut(cookie) {
        return Some(found);
    }
    let look = LOOK.get(0).copied().unwrap_or(0);
    let new = Namespace { inum: net.inum(), look, ..Namespace::default() };
    // Another CPU may have made it at the same time.
    let _ = NAMESPACES.insert(cookie, new, u64::from(aya_ebpf::bindings::BPF_NOEXIST));
    NAMESPACES.get_ptr_mut(cookie)
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c); stable interface.
#[repr(C)]
pub struct IterTask {
    meta: *const c_void,
    task: *const c_void,
}

/// `iter/task`, since Linux 5.8: notes the first thread of each network namespace, whose /proc/TID/net the agent may
/// then read. Does not see namespaces that no thread is in.
///
/// # Safety
/// Called by the kernel with the iterator's context.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn namespaces(ctx: *const IterTask) -> i32 {
    // SAFETY: the context is valid for the call; volatile, so that the pointer is loaded as such.
    let task = unsafe { ptr::read_volatile(&raw const (*ctx).task) };
    let Some(task) = TaskRef::new(task) else { return 0 };
    let Some(net) = task.net() else { return 0 };
    if globals::outside(|| net.inum()) {
        return 0;
    }
    let (Some(found), Some(look)) = (namespace(&net), LOOK.get(0)) else {
        maps::count(tally::NAMESPACE_OVERFLOW);
        return 0;
    };
    // SAFETY: a map value; nobody but this iterator writes these members, and the agent runs one at a time.
    let found = unsafe { &mut *found };
    if found.tid == 0 || found.look != *look {
        found.look = *look;
        found.tid = task.tid();
    }
    0
}
