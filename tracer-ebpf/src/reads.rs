//! `tcp_rcv_space_adjust`: a buffer of received data was handed to its reader.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::tcp_state as s;

use crate::kread::Sk;
use crate::maps::{self, owner_flag};
use crate::marks::{self, mark_flag};
use crate::{ages, globals};

/// `tcp_rcv_space_adjust(sk)`, in `tcp_recvmsg` and the splice paths (net/ipv4/tcp.c); since Linux 4.15.
///
/// Sees each buffer handed over, with `current` the reader. Remembers `write_seq` of sockets that
/// connected: what is written afterwards waits for an answer. For accepted sockets it only learns that the
/// reader is a process that accepts. Does not see a read that finds the end of the stream, nor data that
/// the kernel itself consumes.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_rcv_space_adjust(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = Sk::new(ctx.arg(0)) {
        read(&sk);
    }
    0
}

#[inline(always)]
fn read(sk: &Sk) {
    let Some(mark) = marks::mark(sk) else {
        note_acceptor(sk);
        return;
    };
    let Some(tcp) = sk.tcp() else { return };
    // SAFETY: the mark of a live socket; only its own reader, which holds the socket lock, writes here.
    let memory = unsafe { &mut (*mark).memory };
    let write_seq = tcp.write_seq();
    if memory.read_mark != write_seq {
        memory.exchanges += 1;
        ages::answered(sk, &tcp, memory);
        memory.read_mark = write_seq;
    }
    memory.retrans_mark = tcp.total_retrans();
    memory.flags |= mark_flag::MARKED;
}

/// `current` reads from a connection that it did not make: it accepts. Each CPU remembers the last ones
/// found, so that a busy gateway costs one comparison. Connections outside the
/// vantage have no mark whoever made them, so they say nothing of their readers.
#[inline(always)]
fn note_acceptor(sk: &Sk) {
    let Some(hints) = maps::hints() else { return };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: this CPU's entry of a per-CPU array.
    let seen = unsafe { &mut (*hints).readers[tgid as usize & (maps::READERS - 1)] };
    // One that has closed may be a client's whose slot another has taken since.
    if *seen != tgid && sk.state() != s::CLOSE && !globals::outside(|| sk.net().inum()) {
        maps::remember_owner(tgid, owner_flag::OWNS | owner_flag::ACCEPTS);
        *seen = tgid;
    }
}
