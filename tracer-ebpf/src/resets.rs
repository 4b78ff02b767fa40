//! RSTs: received, and sent by a connection; and what ICMP says of a connect. (Those that no connection sent are `notes`.)

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::config::flag as config_flag;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{ResetSent, kind, phase};

use crate::audit;
use crate::emit;
use crate::ends::phase_of;
use crate::globals;
use crate::kread::{Sk, TaskRef};
use crate::maps;
use crate::marks::{self, mark_flag};
use crate::shares::Origin;
use crate::upstreams;

/// `RCV_SHUTDOWN` of include/net/sock.h.
const RCV_SHUTDOWN: u8 = 1;
/// Errors to users end before this (include/linux/errno.h).
const LAST_ERRNO: u32 = 511;

/// `tcp_receive_reset(sk)`, in `tcp_reset` (net/ipv4/tcp_input.c); since Linux 4.15.
///
/// Fires before the state changes, on the same CPU. Does not see RSTs for request or TIME_WAIT sockets. It
/// also fires where the kernel aborts a closed socket that data came for (TCP_ABORT_ON_DATA): no RST was
/// received then, so those are left out.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    let Some(sk) = Sk::new(ctx.arg(0)) else { return 0 };
    let state = sk.state();
    if matches!(state, s::FIN_WAIT1 | s::FIN_WAIT2) && sk.shutdown() & RCV_SHUTDOWN != 0 {
        return 0;
    }
    if globals::outside(|| sk.net().inum()) {
        return 0;
    }
    if matches!(state, s::SYN_SENT | s::ESTABLISHED | s::CLOSE_WAIT)
        && let Some(hints) = maps::hints()
    {
        // SAFETY: this CPU's entry of a per-CPU array.
        unsafe { (*hints).rst_received = sk.address() };
    }
    let (Some(mark), Some(tcp)) = (marks::mark(&sk), sk.tcp()) else { return 0 };
    // SAFETY: the mark of a live socket.
    let memory = unsafe { &mut (*mark).memory };
    let phase = match state {
        s::SYN_SENT => phase::CONNECT,
        s::ESTABLISHED => phase_of(&tcp, memory, false),
        _ => memory.phase as usize,
    } & (phase::COUNT - 1);
    if state == s::SYN_SENT {
        upstreams::count_silent(&sk, memory, |counters| &raw mut counters.resets_received[phase::CONNECT]);
    } else {
        upstreams::count(&sk, memory, |counters| &raw mut counters.resets_received[phase]);
    }
    0
}

/// `tcp_send_reset(sk, skb[, reason])`, in `tcp_send_active_reset` and `tcp_v[46]_send_reset`; since Linux
/// 4.15, with the reason (and without a socket) since 6.10.
///
/// Sees the RSTs of this host's sockets, after they were sent. Does not see those that netfilter sends.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let reason = if globals::has_reset_reason() { ctx.arg::<u32>(2) } else { u32::MAX };
    let is_answer = ctx.arg::<u64>(1) != 0;
    audit::reset_sent(ctx.arg(0), ctx.arg(1), is_answer, reason);
    let Some(sk) = Sk::new(ctx.arg(0)) else { return 0 };
    let state = sk.state();
    // Of a TIME_WAIT or request socket only `sock_common` is there, and a listener is no connection.
    if matches!(state, 0 | s::TIME_WAIT | s::NEW_SYN_RECV | s::LISTEN) {
        return 0;
    }
    if globals::outside(|| sk.net().inum()) {
        return 0;
    }
    let mut wanted = true;
    let mut dialled = false;
    if let Some(mark) = marks::mark(&sk) {
        // SAFETY: the mark of a live socket.
        let memory = unsafe { &mut (*mark).memory };
        let phase = memory.phase as usize & (phase::COUNT - 1);
        upstreams::count(&sk, memory, |counters| &raw mut counters.resets_sent[phase]);
        dialled = true;
        wanted = memory.flags & mark_flag::REPORTED != 0
            || state == s::ESTABLISHED
            || maps::config() & config_flag::ALL_ENDS != 0;
    }
    if wanted {
        queue_reset(&sk, dialled, reason, is_answer);
    }
    0
}

#[inline(always)]
fn queue_reset(sk: &Sk, dialled: bool, reason: u32, passive: bool) {
    let Some(tcp) = sk.tcp() else { return };
    let origin = if dialled { Origin::dialled(sk) } else { Origin::accepted(sk, tcp.local_port()) };
    emit::queue_of::<ResetSent>(
        origin,
        kind::RESET_SENT,
        |record| &mut record.header,
        |record| {
            record.skaddr = sk.address();
            sk.tuple(tcp.local_port(), &mut record.tuple);
            record.reason = reason;
            record.sk_state = u32::from(sk.state());
            record.passive = u32::from(passive);
            record.sk_err = sk.err();
            if sk.owned() {
                TaskRef::current().describe(&mut record.actor);
            }
        },
    );
}

/// `inet_sk_error_report(sk)`, in `sk_error_report` (net/core/sock.c); since Linux 5.14.
///
/// Sees every error that a socket is told. Only ICMP's to a connect are remembered: its owner may ask for the error,
/// which takes it away, before it closes the socket. Where the owner holds the socket at that moment, the hook
/// fires before the error is noted in it; but the message that carries it is in the queue already. An empty queue
/// points to itself, and what is read then is no errno.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    let Some(sk) = Sk::new(ctx.arg(0)) else { return 0 };
    if sk.state() != s::SYN_SENT || !sk.is_tcp() {
        return 0;
    }
    let Some(mark) = marks::mark(&sk) else { return 0 };
    let err = match (sk.err(), sk.queued_err()) {
        (0, queued @ 1..=LAST_ERRNO) => queued,
        (err, _) => err,
    };
    // SAFETY: the mark of a live socket.
    unsafe { (*mark).memory.icmp_err = err };
    0
}
