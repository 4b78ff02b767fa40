//! `inet_sock_set_state`: where every connection begins and ends.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use tracer_ebpf::config::flag as config_flag;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{Listener, Task, kind, outcome, phase};

use crate::kread::{Sk, TaskRef, Tcp};
use crate::maps::{self, owner_flag};
use crate::marks::{self, Memory, mark_flag};
use crate::{audit, emit, ends, globals, upstreams};

/// `inet_sock_set_state(sk, oldstate, newstate)`, in `tcp_set_state` and its kin (net/ipv4/af_inet.c);
/// since Linux 4.16.
///
/// Sees every change of state of full sockets. Does not see TIME_WAIT (FIN_WAIT2 to CLOSE is the
/// hand-over), request sockets, and connects that fail before a SYN is built (no route).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let old_state = ctx.arg::<i32>(1) as u8;
    let new_state = ctx.arg::<i32>(2) as u8;
    if !carries_news(old_state, new_state) {
        if new_state == s::CLOSE {
            closed(ctx.arg(0), old_state);
        }
        return 0;
    }
    // (None for what is not TCP.)
    let Some(tcp) = Sk::new(ctx.arg(0)).and_then(|sk| sk.tcp()) else { return 0 };
    let sk = tcp.sk();
    if globals::outside(|| sk.net().inum()) {
        return 0;
    }
    if globals::debugging() {
        // (The verifier lets no pointer be taken apart into bytes, so the socket is named by its peer's port.)
        debug!(
            &ctx,
            "inet_sock_set_state: peer port {}, {} to {}, sk_err {}",
            sk.peer_port(),
            old_state,
            new_state,
            sk.err()
        );
    }
    match (old_state, new_state) {
        (s::CLOSE, s::SYN_SENT) => opened(&sk),
        (s::SYN_SENT, s::ESTABLISHED) => established(&sk, &tcp),
        (s::SYN_SENT, _) => {
            audit::connect_ended(&sk);
            ends::connect_failed(&sk, &tcp, new_state);
        }
        (_, s::LISTEN) => listener(&sk, &tcp, true),
        (s::LISTEN, _) => listener(&sk, &tcp, false),
        _ => {
            if new_state == s::CLOSE {
                audit::torn_down(&sk);
            }
            ends::ended(&sk, &tcp, old_state, new_state);
        }
    }
    if new_state == s::CLOSE {
        marks::give_back(&sk);
    }
    0
}

/// The tail of a close has come to its end.
#[inline(always)]
fn closed(sk: *const c_void, old_state: u8) {
    let Some(sk) = Sk::new(sk) else { return };
    audit::ended_late(&sk, old_state);
    marks::give_back(&sk);
}

/// The pairs worth a look; handshakes of accepted sockets and the tail of a close are not.
#[inline(always)]
fn carries_news(old_state: u8, new_state: u8) -> bool {
    matches!(
        (old_state, new_state),
        (s::CLOSE, s::SYN_SENT | s::LISTEN)
            | (s::SYN_SENT, s::ESTABLISHED | s::CLOSE)
            | (s::ESTABLISHED, s::CLOSE_WAIT | s::FIN_WAIT1 | s::CLOSE)
            | (s::CLOSE_WAIT, s::LAST_ACK | s::CLOSE)
            | (s::LISTEN, s::CLOSE)
    )
}

/// connect(2): the socket gets its mark, with the process that connects.
#[inline(always)]
fn opened(sk: &Sk) {
    // SAFETY: the helper only reads the clock.
    let opened_ns = unsafe { bpf_ktime_get_ns() };
    let Some(mark) = marks::place(sk) else { return };
    // SAFETY: a map value that is this socket's, which is not on its way yet: nobody else reads or writes it.
    let mark = unsafe { &mut *mark };
    mark.opened_ns = opened_ns;
    mark.memory = Memory { phase: phase::CONNECT as u32, ..Memory::default() };
    if sk.owned() {
        TaskRef::current().describe(&mut mark.owner);
        maps::remember_connecting(mark.owner.tgid, opened_ns);
    } else {
        mark.owner = Task::default();
    }
}

#[inline(always)]
fn established(sk: &Sk, tcp: &Tcp) {
    let Some(mark) = marks::mark(sk) else { return };
    // SAFETY: the mark of a live socket whose handshake just ended: nobody else writes to it.
    let memory = unsafe { &mut (*mark).memory };
    memory.first_seq = tcp.write_seq();
    memory.read_mark = memory.first_seq;
    // While the hooks are being attached a read may pass unseen, as for what is older than the programs.
    let attached = maps::config() & config_flag::ATTACHED != 0;
    memory.flags |= if attached { mark_flag::MARKED } else { mark_flag::PREEXISTING };
    upstreams::count(sk, memory, |counters| &raw mut counters.connections[outcome::ESTABLISHED]);
}

#[inline(always)]
fn listener(sk: &Sk, tcp: &Tcp, listening: bool) {
    emit::queue::<Listener>(
        kind::LISTENER,
        |record| &mut record.header,
        |record| {
            record.skaddr = sk.address();
            record.netns_cookie = sk.net().cookie();
            sk.tuple(tcp.local_port(), &mut record.tuple);
            record.listening = u32::from(listening);
            record.backlog_limit = sk.backlog_limit();
            record.backlog = sk.backlog();
            if sk.owned() {
                TaskRef::current().describe(&mut record.actor);
                if listening {
                    maps::remember_owner(record.actor.tgid, owner_flag::OWNS);
                }
            }
        },
    );
}
