//! Ends of connections: what is counted, what is worth a record, and what the record says.

use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_jiffies64};
use tracer_ebpf::LONGEST_GOODBYE;
use tracer_ebpf::config::flag as config_flag;
use tracer_ebpf::errno::{ECONNREFUSED, ECONNRESET, ETIMEDOUT};
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{SocketEnd, flag, kind, outcome, phase, role, tally};

use crate::kread::{PF_EXITING, Sk, TaskRef, Tcp};
use crate::maps::{self, owner_flag};
use crate::marks::{self, Memory, Recalled, mark_flag};
use crate::shares::{self, Origin};
use crate::{ages, alike, connects, emit, notes, upstreams};

#[inline(always)]
pub fn connect_failed(sk: &Sk, tcp: &Tcp, new_state: u8) {
    let Some(Recalled { opened_ns, owner, mut memory }) = marks::recall(sk) else { return };
    let err = connect_error(sk, &memory);
    connects::told(sk, err);
    let index = match err {
        ECONNREFUSED => outcome::REFUSED,
        ETIMEDOUT => outcome::TIMED_OUT,
        // The owner gave up: after a SYN went unanswered, or before the first answer was due.
        0 if tcp.total_retrans() > 0 => outcome::TIMED_OUT,
        0 => outcome::ABANDONED,
        _ => outcome::UNREACHABLE,
    };
    upstreams::count_silent(sk, &mut memory, |counters| &raw mut counters.connections[index]);
    let origin = Origin::dialled(sk);
    let found = notes::look_up(sk, tcp, opened_ns);
    let alike = alike::key(sk, owner, err, &found);
    if alike::counted(&alike, origin) {
        return;
    }
    let queued = emit::queue_of::<SocketEnd>(
        origin,
        kind::SOCKET_END,
        |record| &mut record.header,
        |record| {
            fill_end(record, sk, tcp, s::SYN_SENT, new_state);
            fill_client(record, sk, &memory);
            found.fill(record);
            record.sk_err = err;
            record.shape = alike.shape;
        },
    );
    if queued {
        alike::told(&alike, origin);
    }
    reported(sk, &mut memory, queued);
    marks::keep(sk, &memory);
}

/// What the socket says, or what ICMP said before: while its owner holds it, an error is kept as one that may pass,
/// and an owner that asks for it takes it away.
#[inline(always)]
fn connect_error(sk: &Sk, memory: &Memory) -> u32 {
    match (sk.err(), sk.soft_err()) {
        (0, 0) => memory.icmp_err,
        (0, err) | (err, _) => err,
    }
}

/// ESTABLISHED was left, or an accepted socket was closed after its client's FIN.
#[inline(always)]
pub fn ended(sk: &Sk, tcp: &Tcp, old_state: u8, new_state: u8) {
    match marks::recall(sk) {
        Some(mut recalled) => {
            client_ended(sk, tcp, &mut recalled, old_state, new_state);
            marks::keep(sk, &recalled.memory);
        }
        None => server_ended(sk, tcp, old_state, new_state),
    }
}

#[inline(always)]
fn client_ended(sk: &Sk, tcp: &Tcp, recalled: &mut Recalled, old_state: u8, new_state: u8) {
    let Recalled { opened_ns, memory, .. } = recalled;
    let to_judge = if old_state == s::CLOSE_WAIT {
        left_close_wait(sk, tcp, memory, new_state)
    } else {
        left_established(sk, tcp, memory, new_state)
    };
    if !to_judge && (old_state == s::CLOSE_WAIT || !wants_detail()) {
        return;
    }
    let queued = emit::queue_of::<SocketEnd>(
        Origin::dialled(sk),
        kind::SOCKET_END,
        |record| &mut record.header,
        |record| {
            fill_end(record, sk, tcp, old_state, new_state);
            fill_client(record, sk, memory);
            notes::look_up(sk, tcp, *opened_ns).fill(record);
            if memory.phase == phase::PENDING as u32 {
                record.flags |= flag::PENDING;
            }
        },
    );
    if queued || to_judge {
        reported(sk, memory, queued);
    }
}

/// Counts; true if the end is worth a record: an error, a request that waits, an answer that was not read, or an
/// accepted end on this host that has a tale to tell.
#[inline(always)]
fn left_established(sk: &Sk, tcp: &Tcp, memory: &mut Memory, new_state: u8) -> bool {
    let fin = new_state == s::CLOSE_WAIT;
    let phase = phase_of(tcp, memory, fin);
    memory.phase = phase as u32;
    match new_state {
        s::CLOSE_WAIT => count_fin(sk, memory, phase, false),
        s::FIN_WAIT1 => count_fin(sk, memory, phase, true),
        _ => {}
    }
    ages::closed(sk, tcp, memory, new_state);
    let err = new_state == s::CLOSE && sk.err() != 0;
    let unread = tcp.rcv_nxt().wrapping_sub(tcp.copied_seq());
    let dropped = !fin && unread > LONGEST_GOODBYE;
    err || phase == phase::PENDING || dropped || (fin && notes::peer_ended_badly(sk, tcp))
}

/// The peer's FIN was judged when it came. What is left is our own, and whether a request was written after it: a
/// kept connection that its owner did not know to be closed.
#[inline(always)]
fn left_close_wait(sk: &Sk, tcp: &Tcp, memory: &mut Memory, new_state: u8) -> bool {
    if new_state == s::LAST_ACK {
        count_fin(sk, memory, memory.phase as usize, true);
    }
    let judged = memory.phase == phase::PENDING as u32 || memory.flags & mark_flag::MARKED == 0;
    let written = tcp.write_seq().wrapping_sub(memory.read_mark);
    // A request that the peer's kernel took may be one half of a tunnel; one that it refused, or never took, is lost.
    let refused = new_state == s::CLOSE && sk.err() != 0 || tcp.snd_una() != tcp.write_seq();
    if judged || written <= LONGEST_GOODBYE || !refused {
        return false;
    }
    memory.phase = phase::PENDING as u32;
    true
}

/// How far the connection had come. A request is pending if something was written since the last read and
/// nothing is unread; `write_seq` does not count our own FIN yet when ESTABLISHED is left. Of a connection that
/// is older than the programs and has not been read since, the kernel's own times tell: it sent after it had
/// last received (resolution 1/HZ).
#[inline(always)]
pub fn phase_of(tcp: &Tcp, memory: &Memory, fin: bool) -> usize {
    let write_seq = tcp.write_seq();
    let unread = tcp.rcv_nxt().wrapping_sub(tcp.copied_seq()).wrapping_sub(u32::from(fin));
    let written = if memory.flags & mark_flag::MARKED != 0 {
        memory.read_mark != write_seq
    } else {
        (tcp.lsndtime().wrapping_sub(tcp.lrcvtime()) as i32) > 0
    };
    if written && unread == 0 {
        phase::PENDING
    } else if memory.flags & mark_flag::PREEXISTING == 0 && memory.first_seq == write_seq {
        phase::UNUSED
    } else {
        phase::ANSWERED
    }
}

#[inline(always)]
fn server_ended(sk: &Sk, tcp: &Tcp, old_state: u8, new_state: u8) {
    let err = sk.err();
    let peer_ended = new_state == s::CLOSE_WAIT || (new_state == s::CLOSE && err != 0);
    let unanswered = unanswered(tcp, new_state == s::CLOSE_WAIT || old_state == s::CLOSE_WAIT);
    // Who resets is rarely done, even if all that was sent so far has arrived: the gateway may be waiting for more.
    let reset_amid = new_state == s::CLOSE && err == ECONNRESET && tcp.bytes_acked() > 1;
    let answering = reset_amid || (peer_ended && tcp.write_seq() != tcp.snd_una());
    let mut wanted = unanswered || answering;
    if !peer_ended && old_state == s::ESTABLISHED {
        // (After the peer's FIN the application may have read the end of the stream, which counts as a byte.)
        let unread = tcp.rcv_nxt() != tcp.copied_seq();
        let dies_badly = dies_badly(sk);
        wanted |= unread || new_state == s::CLOSE || dies_badly;
        if unanswered || dies_badly {
            notes::bad_end(sk, tcp);
        }
    }
    if !wanted && !wants_detail() {
        return;
    }
    emit::queue_of::<SocketEnd>(
        Origin::accepted(sk, tcp.local_port()),
        kind::SOCKET_END,
        |record| &mut record.header,
        |record| {
            fill_end(record, sk, tcp, old_state, new_state);
            record.role = role::SERVER;
            if unanswered {
                record.flags |= flag::UNANSWERED;
            }
            if answering {
                record.flags |= flag::ANSWERING;
            }
        },
    );
}

/// Whether somebody wants the ends of healthy connections, and there is room for such. It is asked last, since it counts
/// what there is no room for.
#[inline(always)]
fn wants_detail() -> bool {
    if maps::config() & config_flag::ALL_ENDS == 0 {
        return false;
    }
    let room = shares::admits_detail();
    if !room {
        maps::count(tally::LOST + u32::from(kind::SOCKET_END));
    }
    room
}

/// An accepted socket owes an answer if it has received data after it had last sent some. The kernel keeps
/// both times in jiffies, so an answer within one tick of the request counts as an answer.
#[inline(always)]
fn unanswered(tcp: &Tcp, fin: bool) -> bool {
    if tcp.bytes_received() <= u64::from(fin) {
        return false;
    }
    let sent_nothing = tcp.bytes_acked() <= 1 && tcp.write_seq() == tcp.snd_una();
    sent_nothing || (tcp.lrcvtime().wrapping_sub(tcp.lsndtime()) as i32) > 0
}

/// The process that closes the socket is dying of a signal or of a status other than 0.
#[inline(always)]
fn dies_badly(sk: &Sk) -> bool {
    let current = TaskRef::current();
    sk.owned() && current.flags() & PF_EXITING != 0 && current.exit_code() != 0
}

/// What both roles have in common.
#[inline(always)]
fn fill_end(record: &mut SocketEnd, sk: &Sk, tcp: &Tcp, old_state: u8, new_state: u8) {
    record.skaddr = sk.address();
    // SAFETY: `sk` is the hook's socket; the helper only reads its cookie, or makes one.
    record.cookie = unsafe { bpf_get_socket_cookie(sk.as_ptr().cast_mut()) };
    sk.tuple(tcp.local_port(), &mut record.tuple);
    record.netns_cookie = sk.net().cookie();
    record.old_state = old_state;
    record.new_state = new_state;
    record.sk_err = sk.err();
    record.sk_shutdown = sk.shutdown();
    record.bytes_received = tcp.bytes_received();
    record.bytes_acked = tcp.bytes_acked();
    record.snd_una = tcp.snd_una();
    record.write_seq = tcp.write_seq();
    record.snd_nxt = tcp.snd_nxt();
    record.rcv_nxt = tcp.rcv_nxt();
    record.copied_seq = tcp.copied_seq();
    // SAFETY: the helper only reads the clock.
    let jiffies = unsafe { bpf_jiffies64() } as u32;
    record.lsnd_age = jiffies.wrapping_sub(tcp.lsndtime());
    record.lrcv_age = jiffies.wrapping_sub(tcp.lrcvtime());
    record.ack_age = jiffies.wrapping_sub(tcp.rcv_tstamp());
    record.total_retrans = tcp.total_retrans();
    record.timeouts = u32::from(tcp.timeouts());
    record.srtt_us = tcp.srtt_us();
    record.flags |= hinted(sk, new_state);
    if sk.lingers_zero() {
        record.flags |= flag::LINGER0;
    }
    if !sk.has_socket() {
        record.flags |= flag::NO_SOCKET;
    }
    fill_actor(record, sk, new_state);
}

/// `current` is the actor where it holds the socket, and when a listener's closing takes the connections
/// with it that were never accepted (their locks are free, and `current` closes the listener).
#[inline(always)]
fn fill_actor(record: &mut SocketEnd, sk: &Sk, new_state: u8) {
    let orphaned = new_state == s::CLOSE
        && record.flags & flag::NO_SOCKET != 0
        && record.sk_shutdown == 0
        && record.sk_err == 0;
    if sk.owned() || orphaned {
        record.flags |= flag::OWNED;
        TaskRef::current().describe(&mut record.actor);
    }
}

/// What the hooks that ran just before on this CPU have left for this socket. A hint counts only for the change
/// of state that its hook leads to: an address is used again by the next socket.
#[inline(always)]
fn hinted(sk: &Sk, new_state: u8) -> u32 {
    let Some(hints) = maps::hints() else { return 0 };
    // SAFETY: this CPU's entry of a per-CPU array.
    let hints = unsafe { &mut *hints };
    let mut flags = 0;
    if hints.rst_received == sk.address() {
        hints.rst_received = 0;
        if new_state == s::CLOSE && sk.err() != 0 {
            flags |= flag::RST_RECEIVED;
        }
    }
    if hints.fin == sk.address() {
        hints.fin = 0;
        if new_state == s::CLOSE_WAIT {
            flags |= flag::FIN_SEEN;
        }
    }
    flags
}

#[inline(always)]
fn fill_client(record: &mut SocketEnd, sk: &Sk, memory: &Memory) {
    record.role = role::CLIENT;
    if let Some(mark) = marks::mark(sk) {
        // SAFETY: the mark of a live socket; the change of state holds the socket lock.
        (record.opened_ns, record.owner) = unsafe { ((*mark).opened_ns, (*mark).owner) };
    }
    record.read_mark = memory.read_mark;
    record.retrans_mark = memory.retrans_mark;
    record.exchanges = memory.exchanges;
    if memory.flags & mark_flag::MARKED != 0 {
        record.flags |= flag::MARKED;
    }
    if memory.flags & mark_flag::PREEXISTING != 0 {
        record.flags |= flag::PREEXISTING;
    }
    if maps::owner_flags(record.owner.tgid) & owner_flag::ACCEPTS != 0 {
        record.flags |= flag::OWNER_ACCEPTS;
    }
    ages::fill(record, sk, memory);
}

/// Notes that an end was queued, or counts that it was not.
#[inline(always)]
fn reported(sk: &Sk, memory: &mut Memory, queued: bool) {
    if queued {
        memory.flags |= mark_flag::REPORTED;
        return;
    }
    let answered = memory.phase != phase::CONNECT as u32;
    upstreams::count_in(sk, memory, answered, |counters| &raw mut counters.unclassified);
}

#[inline(always)]
fn count_fin(sk: &Sk, memory: &mut Memory, phase: usize, sent: bool) {
    // Four phases: the mask shows the verifier that the index stays inside.
    let phase = phase & (phase::COUNT - 1);
    if sent {
        upstreams::count(sk, memory, |counters| &raw mut counters.fins_sent[phase]);
    } else {
        upstreams::count(sk, memory, |counters| &raw mut counters.fins_received[phase]);
    }
}

const _: () = assert!(phase::COUNT.is_power_of_two());
