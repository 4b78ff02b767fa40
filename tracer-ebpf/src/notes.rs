//! Notes to a socket on what became of its segments elsewhere on this host: refused where nothing listens, reset by a
//! listener that does not know the connection, dropped by a packet filter or a full accept queue; and that the
//! accepted end of its connection came to a bad end.
//!
//! Nothing is queued for them, or a port scan would be our flood: they wait in LRU maps for the socket that they
//! explain, which looks for them only when it ends abnormally itself.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_probe_read_kernel};
use aya_ebpf::macros::{btf_tracepoint, fentry, map};
use aya_ebpf::maps::{Array, LruHashMap};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext};
use tracer_ebpf::config::limit;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{SocketEnd, note, tally};

use crate::audit;
use crate::globals::{self, DropReason};
use crate::kread::{NetRef, Sk, Skb, Tcp, write_mapped};
use crate::maps;

const IPV4: u8 = 4;
const IPV6: u8 = 6;
const NEXT_HEADER_TCP: u8 = 6;
const TH_SYN: u8 = 0x02;
const TH_RST: u8 = 0x04;
const TH_ACK: u8 = 0x10;
/// Bytes by which the segment of a note may differ from where its socket has come: the largest window there is
/// without several gigabytes in flight.
const WINDOW: u32 = 1 << 24;
/// Jiffies for which the end of an accepted socket may explain the end of its client's: some seconds at any HZ.
const RECENT_JIFFIES: u64 = 1000;

/// Direction and kind of a note: the tuple is that of the segment, `local` its sender.
#[repr(C)]
#[derive(Clone, Copy)]
struct NoteKey {
    local: [u8; 16],
    peer: [u8; 16],
    local_port: u16,
    peer_port: u16,
    /// One bit of `wire::note`.
    kind: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Note {
    ktime_ns: u64,
    /// Sequence number of the segment.
    seq: u32,
    netns: u32,
    netns_cookie: u64,
}

/// A TCP segment, as its headers say.
struct Segment {
    key: NoteKey,
    seq: u32,
    flags: u8,
}

#[map]
static NOTES: LruHashMap<NoteKey, Note> = LruHashMap::with_max_entries(limit::NOTES as u32, 0);

/// Apart from `NOTES`, so that a flood that a packet filter drops does not push the others out.
#[map]
static FILTERED: LruHashMap<NoteKey, Note> = LruHashMap::with_max_entries(limit::NOTES as u32, 0);

/// Jiffies at the last bad end of an accepted socket: while there was none lately, nobody needs to look for one.
#[map]
static LAST_BAD_END: Array<u64> = Array::with_max_entries(1, 0);

/// `tcp_send_reset(sk, skb, reason)` once more, for segments that belong to no connection (since Linux 6.10 the
/// tracepoint fires without a socket): a SYN for a port where nothing listens, a segment of a connection that this
/// host does not know, the last segment of a handshake that found the accept queue full.
///
/// Reads packet headers, so it needs `bpf_probe_read_kernel`, which lockdown=confidentiality refuses; without it a
/// refusal by this host cannot be told from one by a packet filter.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn refused_syn(ctx: BtfTracePointContext) -> i32 {
    answered_with_reset(ctx.arg(0), ctx.arg(1))
}

/// `tcp_v4_send_reset(sk, skb)` (net/ipv4/tcp_ipv4.c) by fentry, for kernels before 6.10, whose tracepoint
/// is silent without a socket. Runs before the function's own checks, so it also sees segments that get no
/// answer; RSTs, which never get one, are left out.
#[fentry(function = "tcp_v4_send_reset")]
pub fn refused_syn_v4(ctx: FEntryContext) -> i32 {
    answered_with_reset(ctx.arg(0), ctx.arg(1))
}

/// `tcp_v6_send_reset(sk, skb)` (net/ipv6/tcp_ipv6.c); see [`refused_syn_v4`].
#[fentry(function = "tcp_v6_send_reset")]
pub fn refused_syn_v6(ctx: FEntryContext) -> i32 {
    answered_with_reset(ctx.arg(0), ctx.arg(1))
}

/// `sk` and `skb` as the three hooks above get them; `sk` is null where nothing listens.
#[inline(always)]
fn answered_with_reset(sk: *const c_void, skb: *const c_void) -> i32 {
    let Some(skb) = Skb::new(skb) else { return 0 };
    let listener = Sk::new(sk);
    // On some kernels the null check above is optimised away; such a socket reads as state 0.
    if let Some(sk) = listener
        && !matches!(sk.state(), 0 | s::LISTEN)
    {
        if !globals::has_reset_reason() && matches!(sk.state(), s::TIME_WAIT | s::NEW_SYN_RECV) {
            audit::reset_without_socket(&skb);
        }
        return 0;
    }
    if globals::outside(|| skb.net().inum()) {
        return 0;
    }
    let listening = listener.is_some_and(|sk| sk.state() == s::LISTEN);
    if !listening {
        maps::count(tally::NO_SOCKET_RESETS);
    }
    let Ok(mut segment) = segment(&skb) else { return 0 };
    if segment.flags & TH_RST != 0 {
        return 0;
    }
    if !listening && !globals::has_reset_reason() {
        audit::reset_without_socket(&skb);
    }
    // The kernel's own condition for a full queue (`sk_acceptq_is_full`).
    let full = listener.is_some_and(|sk| sk.state() == s::LISTEN && sk.backlog() > sk.backlog_limit());
    segment.key.kind = match () {
        () if full => note::OVERFLOW_RESET,
        () if !listening && segment.flags & TH_SYN != 0 && segment.flags & TH_ACK == 0 => note::REFUSED,
        () => note::STRANGER,
    };
    let _ = NOTES.insert(segment.key, note(segment.seq, &skb.net()), 0);
    0
}

/// `kfree_skb(skb, location, reason)`, in `kfree_skb_reason` and its kin (net/core/skbuff.c); with the reason
/// since Linux 5.17, TCP_LISTEN_OVERFLOW since 6.13 or so.
///
/// Fires for every dropped packet of the host, so the reason is looked at first: dropped by netfilter, by a full
/// accept queue, or for want of a neighbour. Does not see what `nft`'s and `iptables`' REJECT answers, and not
/// a SYN dropped by a full accept queue, which the kernel frees as if it were consumed.
#[btf_tracepoint(function = "kfree_skb")]
pub fn packet_dropped(ctx: BtfTracePointContext) -> i32 {
    let kind = match globals::drop_reason(ctx.arg::<u32>(2)) {
        DropReason::Other => return 0,
        DropReason::Netfilter => note::FILTERED,
        DropReason::ListenOverflow => note::OVERFLOW_DROP,
        DropReason::Neighbour => note::UNRESOLVED,
    };
    let Some(skb) = Skb::new(ctx.arg(0)) else { return 0 };
    if globals::outside(|| skb.net().inum()) {
        return 0;
    }
    let Ok(mut segment) = segment(&skb) else { return 0 };
    segment.key.kind = kind;
    let written = note(segment.seq, &skb.net());
    let _ = if kind == note::FILTERED {
        FILTERED.insert(segment.key, written, 0)
    } else {
        NOTES.insert(segment.key, written, 0)
    };
    0
}

/// The accepted end of a connection closes owing an answer, or dies badly: its client's end may look healthy
/// and should be told all the same.
#[inline(always)]
pub fn bad_end(sk: &Sk, tcp: &Tcp) {
    let key = own_key(sk, tcp, note::PEER_ENDED);
    let _ = NOTES.insert(key, note(tcp.write_seq(), &sk.net()), 0);
    if let Some(last) = LAST_BAD_END.get_ptr_mut(0) {
        // SAFETY: a map value, which stays valid while the program runs; any of several writers may win.
        unsafe { *last = bpf_jiffies64() };
    }
}

/// Whether the accepted end of this connection came to a bad end. Costs one comparison while none did lately.
#[inline(always)]
pub fn peer_ended_badly(sk: &Sk, tcp: &Tcp) -> bool {
    let last = LAST_BAD_END.get(0).copied().unwrap_or(0);
    // SAFETY: the helper only reads the clock.
    if last == 0 || unsafe { bpf_jiffies64() }.wrapping_sub(last) > RECENT_JIFFIES {
        return false;
    }
    find(&peer_key(sk, tcp, note::PEER_ENDED), tcp.rcv_nxt(), 0).is_some()
}

/// What is noted of the segments of one socket, as `SocketEnd` has it.
#[derive(Clone, Copy, Default)]
pub struct Found {
    /// Bits of `wire::note`.
    pub notes: u32,
    pub refused_in_netns: u32,
    pub refused_in_cookie: u64,
    pub filtered_in_netns: u32,
}

impl Found {
    #[inline(always)]
    pub fn fill(&self, record: &mut SocketEnd) {
        record.notes = self.notes;
        record.refused_in_netns = self.refused_in_netns;
        record.refused_in_cookie = self.refused_in_cookie;
        record.filtered_in_netns = self.filtered_in_netns;
    }
}

/// Looks for what is noted of a client's socket that ends, since it was opened.
#[inline(always)]
pub fn look_up(sk: &Sk, tcp: &Tcp, since: u64) -> Found {
    let mut found = Found::default();
    let sent = tcp.write_seq();
    for kind in [note::STRANGER, note::OVERFLOW_RESET, note::OVERFLOW_DROP, note::UNRESOLVED] {
        if find(&own_key(sk, tcp, kind), sent, since).is_some() {
            found.notes |= kind;
        }
    }
    if let Some(refused) = find(&own_key(sk, tcp, note::REFUSED), sent, since) {
        found.notes |= note::REFUSED;
        found.refused_in_netns = refused.netns;
        found.refused_in_cookie = refused.netns_cookie;
    }
    if let Some(filtered) = find_filtered(&own_key(sk, tcp, note::FILTERED), sent, since) {
        found.notes |= note::FILTERED;
        found.filtered_in_netns = filtered.netns;
    }
    let received = tcp.rcv_nxt();
    // Before the handshake nothing was received that an answer could be compared with.
    let expected = if received == 0 { None } else { Some(received) };
    if let Some(filtered) = find_answer_filtered(&peer_key(sk, tcp, note::FILTERED), expected, since) {
        found.notes |= note::ANSWER_FILTERED;
        found.filtered_in_netns = filtered.netns;
    }
    if find(&peer_key(sk, tcp, note::PEER_ENDED), received, 0).is_some() {
        found.notes |= note::PEER_ENDED;
    }
    found
}

#[inline(always)]
fn find(key: &NoteKey, seq: u32, since_ns: u64) -> Option<Note> {
    // SAFETY: a torn value could only be one whose entry is being reused, and then its sequence number is far off.
    let found = unsafe { NOTES.get(key) }.copied()?;
    (near(found.seq, seq) && found.ktime_ns >= since_ns).then_some(found)
}

#[inline(always)]
fn find_filtered(key: &NoteKey, seq: u32, since_ns: u64) -> Option<Note> {
    find_answer_filtered(key, Some(seq), since_ns)
}

#[inline(always)]
fn find_answer_filtered(key: &NoteKey, seq: Option<u32>, since_ns: u64) -> Option<Note> {
    // SAFETY: as in `find`.
    let found = unsafe { FILTERED.get(key) }.copied()?;
    (seq.is_none_or(|seq| near(found.seq, seq)) && found.ktime_ns >= since_ns).then_some(found)
}

#[inline(always)]
fn near(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).wrapping_add(WINDOW) <= 2 * WINDOW
}

#[inline(always)]
fn note(seq: u32, net: &NetRef) -> Note {
    // SAFETY: the helper only reads the clock.
    Note { ktime_ns: unsafe { bpf_ktime_get_ns() }, seq, netns: net.inum(), netns_cookie: net.cookie() }
}

/// Key of a note on a segment that this socket sent.
#[inline(always)]
fn own_key(sk: &Sk, tcp: &Tcp, kind: u32) -> NoteKey {
    let mut key = NoteKey {
        local: [0; 16],
        peer: [0; 16],
        local_port: tcp.local_port(),
        peer_port: sk.peer_port(),
        kind,
    };
    sk.local_address(&mut key.local);
    sk.peer_address(&mut key.peer);
    key
}

/// Key of a note on a segment of its peer.
#[inline(always)]
fn peer_key(sk: &Sk, tcp: &Tcp, kind: u32) -> NoteKey {
    let mut key = NoteKey {
        local: [0; 16],
        peer: [0; 16],
        local_port: sk.peer_port(),
        peer_port: tcp.local_port(),
        kind,
    };
    sk.peer_address(&mut key.local);
    sk.local_address(&mut key.peer);
    key
}

/// The headers of a TCP segment. An error: no TCP, or not readable.
///
/// The transport header is found by the length of the network header: where a packet filter looks at what this host
/// sends, the kernel has not always noted it yet.
#[inline(always)]
fn segment(skb: &Skb) -> Result<Segment, i32> {
    let mut key = NoteKey { local: [0; 16], peer: [0; 16], local_port: 0, peer_port: 0, kind: 0 };
    let network = skb.network_header();
    let first = read::<u8>(network, 0)?;
    let length = match first >> 4 {
        IPV4 => {
            if read::<u8>(network, 9)? != NEXT_HEADER_TCP {
                return Err(0);
            }
            write_mapped(&mut key.local, read(network, 12)?);
            write_mapped(&mut key.peer, read(network, 16)?);
            usize::from(first & 0xf) * 4
        }
        IPV6 => {
            if read::<u8>(network, 6)? != NEXT_HEADER_TCP {
                return Err(0);
            }
            key.local = read(network, 8)?;
            key.peer = read(network, 24)?;
            40
        }
        _ => return Err(0),
    };
    let transport = network.wrapping_add(length);
    key.local_port = u16::from_be(read(transport, 0)?);
    key.peer_port = u16::from_be(read(transport, 2)?);
    Ok(Segment { key, seq: u32::from_be(read(transport, 4)?), flags: read(transport, 13)? })
}

#[inline(always)]
fn read<T>(base: *const u8, at: usize) -> Result<T, i32> {
    // SAFETY: the helper checks the address and fails for one that is not mapped.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(at).cast()) }
}
