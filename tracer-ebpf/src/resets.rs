//! RSTs: received, sent by a socket, and sent by no socket.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{btf_tracepoint, fentry};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext};
use tracer_ebpf::config::flag as config_flag;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{ResetSent, kind, phase, tally};

use crate::emit;
use crate::ends::{count_upstream, phase_of};
use crate::globals;
use crate::kread::{Sk, Skb, TaskRef, write_mapped};
use crate::maps::{self, RefusalKey, mark_flag};

/// `RCV_SHUTDOWN` of include/net/sock.h.
const RCV_SHUTDOWN: u8 = 1;
const IPV4: u8 = 4;
const IPV6: u8 = 6;
const NEXT_HEADER_TCP: u8 = 6;
const TH_SYN: u8 = 0x02;
const TH_ACK: u8 = 0x10;

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
    if globals::outside(|| sk.netns()) {
        return 0;
    }
    if matches!(state, s::SYN_SENT | s::ESTABLISHED)
        && let Some(hints) = maps::hints()
    {
        // SAFETY: this CPU's entry of a per-CPU array.
        unsafe { (*hints).rst_received = sk.address() };
    }
    let (Some(mark), Some(tcp)) = (maps::mark(&sk), sk.tcp()) else { return 0 };
    // SAFETY: storage of a live socket.
    let mark = unsafe { &*mark };
    let phase = match state {
        s::SYN_SENT => phase::CONNECT,
        s::ESTABLISHED => phase_of(&tcp, mark, false),
        _ => mark.phase as usize,
    } & (phase::COUNT - 1);
    count_upstream(&sk, |counters| &raw mut counters.resets_received[phase]);
    0
}

/// `tcp_send_reset(sk, skb[, reason])`, in `tcp_send_active_reset` and `tcp_v[46]_send_reset`; since Linux
/// 4.15, with the reason (and without a socket) since 6.10.
///
/// Sees the RSTs of this host's sockets, after they were sent. Does not see those that netfilter sends.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let Some(sk) = Sk::new(ctx.arg(0)) else { return 0 };
    let state = sk.state();
    // Of a TIME_WAIT or request socket only `sock_common` is there, and a listener is no connection.
    if matches!(state, 0 | s::TIME_WAIT | s::NEW_SYN_RECV | s::LISTEN) {
        return 0;
    }
    if globals::outside(|| sk.netns()) {
        return 0;
    }
    let mut wanted = true;
    if let Some(mark) = maps::mark(&sk) {
        // SAFETY: storage of a live socket.
        let mark = unsafe { &*mark };
        let phase = mark.phase as usize & (phase::COUNT - 1);
        count_upstream(&sk, |counters| &raw mut counters.resets_sent[phase]);
        wanted = mark.flags & mark_flag::REPORTED != 0
            || state == s::ESTABLISHED
            || maps::config() & config_flag::ALL_ENDS != 0;
    }
    if wanted {
        let reason = if globals::has_reset_reason() { ctx.arg::<u32>(2) } else { u32::MAX };
        queue_reset(&sk, state, reason, ctx.arg::<u64>(1) != 0);
    }
    0
}

#[inline(always)]
fn queue_reset(sk: &Sk, state: u8, reason: u32, passive: bool) {
    let Some(tcp) = sk.tcp() else { return };
    emit::queue::<ResetSent>(
        kind::RESET_SENT,
        |record| &mut record.header,
        |record| {
            record.skaddr = sk.address();
            sk.tuple(tcp.local_port(), &mut record.tuple);
            record.reason = reason;
            record.sk_state = u32::from(state);
            record.passive = u32::from(passive);
            record.sk_err = sk.err();
            if sk.owned() {
                TaskRef::current().describe(&mut record.actor);
            }
        },
    );
}

/// The same tracepoint without a socket (since Linux 6.10): a SYN came for a port where nothing listens.
///
/// Nothing is queued, or a port scan would be our flood: the refusal waits in a map for the socket that
/// asked. Reads packet headers, so it needs `bpf_probe_read_kernel`, which lockdown=confidentiality refuses;
/// without it a refusal by this host cannot be told from one by a packet filter.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn refused_syn(ctx: BtfTracePointContext) -> i32 {
    answered_without_socket(ctx.arg(0), ctx.arg(1))
}

/// `tcp_v4_send_reset(sk, skb)` (net/ipv4/tcp_ipv4.c) by fentry, for kernels before 6.10, whose tracepoint
/// is silent without a socket. Runs before the function's own checks, so it also sees segments that get no
/// answer; only SYNs are taken.
#[fentry(function = "tcp_v4_send_reset")]
pub fn refused_syn_v4(ctx: FEntryContext) -> i32 {
    answered_without_socket(ctx.arg(0), ctx.arg(1))
}

/// `tcp_v6_send_reset(sk, skb)` (net/ipv6/tcp_ipv6.c); see [`refused_syn_v4`].
#[fentry(function = "tcp_v6_send_reset")]
pub fn refused_syn_v6(ctx: FEntryContext) -> i32 {
    answered_without_socket(ctx.arg(0), ctx.arg(1))
}

/// `sk` and `skb` as the three hooks above get them.
#[inline(always)]
fn answered_without_socket(sk: u64, skb: *const c_void) -> i32 {
    if sk == 0
        && let Some(skb) = Skb::new(skb)
    {
        note_refusal(&skb);
    }
    0
}

#[inline(always)]
fn note_refusal(skb: &Skb) {
    maps::count(tally::NO_SOCKET_RESETS);
    let netns = skb.netns();
    if globals::outside(|| netns) {
        return;
    }
    let mut key = RefusalKey { local: [0; 16], peer: [0; 16], local_port: 0, peer_port: 0, seq: 0 };
    if refused(skb, &mut key).is_ok() {
        let _ = maps::REFUSALS.insert(key, netns, 0);
    }
}

/// The SYN in `skb`, as the socket that sent it sees itself. An error: no SYN, or not readable.
#[inline(always)]
fn refused(skb: &Skb, key: &mut RefusalKey) -> Result<(), i32> {
    let network = skb.network_header();
    let first = read::<u8>(network, 0)?;
    match first >> 4 {
        IPV4 => {
            write_mapped(&mut key.local, read(network, 12)?);
            write_mapped(&mut key.peer, read(network, 16)?);
        }
        IPV6 => {
            if read::<u8>(network, 6)? != NEXT_HEADER_TCP {
                return Err(0);
            }
            key.local = read(network, 8)?;
            key.peer = read(network, 24)?;
        }
        _ => return Err(0),
    }
    let transport = skb.transport_header();
    let flags = read::<u8>(transport, 13)?;
    if flags & TH_SYN == 0 || flags & TH_ACK != 0 {
        return Err(0);
    }
    key.local_port = u16::from_be(read(transport, 0)?);
    key.peer_port = u16::from_be(read(transport, 2)?);
    key.seq = u32::from_be(read(transport, 4)?);
    Ok(())
}

#[inline(always)]
fn read<T>(base: *const u8, at: usize) -> Result<T, i32> {
    // SAFETY: the helper checks the address and fails for one that is not mapped.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(at).cast()) }
}
