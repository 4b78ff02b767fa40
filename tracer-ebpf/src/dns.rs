//! Group `dns`: what a process asks of a resolver over UDP, and the header of what it gets back.
//!
//! Read of a payload are the twelve bytes of a DNS header and, of a query only, the name with its type and class;
//! nothing of a message that goes elsewhere than to a resolver's port, and nothing of an answer but its header. A socket is
//! known as one that asks once it has asked.
//!
//! The payload is read where the process keeps it, in the system call that sends or receives it (`user_message`).
//! Queries over TCP, over TLS and by io_uring are not seen.

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_user, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, btf_tracepoint, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use tracer_ebpf::config::is_resolver_port;
use tracer_ebpf::errno;
use tracer_ebpf::wire::dns::{DnsAnswer, DnsQuery, flag};
use tracer_ebpf::wire::{Tuple, kind};

use crate::kread::{AF_INET, AF_INET6, PF_KTHREAD, Sk, TaskRef, write_mapped, write_words};
use crate::maps::{self, owner_flag};
use crate::user_message::{self, Message, read_user};
use crate::{emit, globals};

/// QR and opcode in the second word of a header: zero in an ordinary query.
const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const HEADER_BYTES: u64 = 12;
/// Bytes behind the name of a query.
const TYPE_AND_CLASS: u64 = 4;
/// Labels of a name that are followed. What a gateway resolves has a handful; a reverse name of IPv6 has 34.
const LABELS: u32 = 40;
const CLASS_INTERNET: u16 = 1;
/// A system call that will be made again, or has nothing to say yet.
const EINTR: i32 = errno::EINTR as i32;
const EAGAIN: i32 = errno::EAGAIN as i32;
const ERESTARTSYS: i32 = 512;

/// UDP sockets that have asked a resolver. Freed with the socket.
#[btf_map]
static ASKERS: SkStorage<u32> = SkStorage::new();

/// `sock_send_length(sk, ret, flags)`, in `sock_sendmsg` (net/socket.c); since Linux 6.3.
///
/// Sees every send of every socket, in process context, once it is done. Does not see io_uring's payload.
#[btf_tracepoint(function = "sock_send_length")]
pub fn dns_sent(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = Sk::new(ctx.arg(0)) {
        sent(&sk, ctx.arg(1));
    }
    0
}

/// `sock_recv_length(sk, ret, flags)`, in `sock_recvmsg` (net/socket.c); since Linux 6.3.
///
/// Sees every receive of every socket, errors included, when the payload has reached the process.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn dns_received(ctx: BtfTracePointContext) -> i32 {
    if let Some(sk) = Sk::new(ctx.arg(0)) {
        received(&sk, ctx.arg(1));
    }
    0
}

/// `udp_sendmsg(sk, msg, len)` (net/ipv4/udp.c), at its return; for kernels before 6.3.
#[fexit(function = "udp_sendmsg")]
pub fn dns_sent_v4(ctx: FExitContext) -> i32 {
    returned(&ctx, sent)
}

/// `udpv6_sendmsg(sk, msg, len)` (net/ipv6/udp.c): the same for IPv6. (It hands mapped addresses to the other one.)
#[fexit(function = "udpv6_sendmsg")]
pub fn dns_sent_v6(ctx: FExitContext) -> i32 {
    returned(&ctx, sent)
}

/// `udp_recvmsg(sk, msg, len, …)` (net/ipv4/udp.c), at its return; for kernels before 6.3.
#[fexit(function = "udp_recvmsg")]
pub fn dns_received_v4(ctx: FExitContext) -> i32 {
    returned(&ctx, received)
}

/// `udpv6_recvmsg(sk, msg, len, …)` (net/ipv6/udp.c): the same for IPv6.
#[fexit(function = "udpv6_recvmsg")]
pub fn dns_received_v6(ctx: FExitContext) -> i32 {
    returned(&ctx, received)
}

#[inline(always)]
fn returned(ctx: &FExitContext, then: impl FnOnce(&Sk, i32)) -> i32 {
    if let (Some(sk), Ok(ret)) = (Sk::new(ctx.arg(0)), ctx.ret::<i32>()) {
        then(&sk, ret);
    }
    0
}

/// A send has returned `ret`.
#[inline(always)]
fn sent(sk: &Sk, ret: i32) {
    if !sk.is_udp() || is_passing(ret) || TaskRef::current().flags() & PF_KTHREAD != 0 {
        return;
    }
    // A socket that is connected elsewhere is none of ours, and nothing of what it sends is read.
    let port = sk.peer_port();
    if (port != 0 && !is_resolver_port(port)) || globals::outside(|| sk.net().inum()) {
        return;
    }
    for index in 0..user_message::BATCH {
        let Some(message) = user_message::current(index) else { return };
        asked(sk, &message, ret);
    }
}

#[inline(always)]
fn asked(sk: &Sk, message: &Message, ret: i32) {
    let mut tuple = Tuple::default();
    sk.tuple(sk.local_port(), &mut tuple);
    if tuple.peer_port == 0 && !named_peer(message, &mut tuple) {
        return;
    }
    // A question to everybody (mDNS) wants no answer.
    if is_multicast(&tuple.peer) {
        return;
    }
    let Some([id, bits, queries]) = read_user::<[u16; 3]>(message.buffer) else { return };
    if u16::from_be(bits) & (QR | OPCODE) != 0 || u16::from_be(queries) != 1 {
        return;
    }
    let Some(length) = name_length(message) else { return };
    let end = message.buffer + HEADER_BYTES + length;
    let Some([query_type, class]) = read_user::<[u16; 2]>(end) else { return };
    if u16::from_be(class) != CLASS_INTERNET || !remember(sk) {
        return;
    }
    emit::queue::<DnsQuery>(
        kind::DNS_QUERY,
        |record| &mut record.header,
        |record| {
            record.tuple = tuple;
            record.id = u16::from_be(id);
            record.query_type = u16::from_be(query_type);
            record.errno = if ret < 0 { ret.unsigned_abs() } else { 0 };
            describe_asker(sk, record);
            // SAFETY: the destination has 256 bytes and `length` is at most 255, which the mask shows the verifier.
            unsafe {
                bpf_probe_read_user(
                    record.name.0.as_mut_ptr().cast(),
                    (length & 0xff) as u32,
                    (message.buffer + HEADER_BYTES) as *const _,
                )
            };
        },
    );
}

#[inline(always)]
fn describe_asker(sk: &Sk, record: &mut DnsQuery) {
    // SAFETY: `sk` is the hook's socket; the helper only reads its cookie, or makes one.
    record.cookie = unsafe { bpf_get_socket_cookie(sk.as_ptr().cast_mut()) };
    // SAFETY: the helper only says who runs.
    record.thread = unsafe { bpf_get_current_pid_tgid() } as u32;
    TaskRef::current().describe(&mut record.owner);
    if maps::owner_flags(record.owner.tgid) & owner_flag::ACCEPTS != 0 {
        record.flags |= flag::OWNER_ACCEPTS;
    }
}

/// Of a socket that is not connected: the address in the message, if it is a resolver's.
#[inline(always)]
fn named_peer(message: &Message, tuple: &mut Tuple) -> bool {
    let Some([family, port]) = read_user::<[u16; 2]>(message.name) else { return false };
    tuple.peer_port = u16::from_be(port);
    if !is_resolver_port(tuple.peer_port) {
        return false;
    }
    // Behind family and port: the address of IPv4; for IPv6 four bytes of flow label come first.
    match family {
        AF_INET => read_user(message.name + 4).map(|address| write_mapped(&mut tuple.peer, address)),
        AF_INET6 => read_user(message.name + 8).map(|address| write_words(&mut tuple.peer, address)),
        _ => None,
    }
    .is_some()
}

/// 224.0.0.0/4 as `::ffff:e0..ef…`, and ff00::/8.
#[inline(always)]
fn is_multicast(address: &[u8; 16]) -> bool {
    address[0] == 0xff || (address[0] == 0 && address[10] == 0xff && address[12] >> 4 == 0xe)
}

/// Bytes of the first query's name with its last, empty label: only the lengths of the labels are looked at.
#[inline(always)]
fn name_length(message: &Message) -> Option<u64> {
    let mut length = 0;
    for _ in 0..LABELS {
        let label = u64::from(read_user::<u8>(message.buffer + HEADER_BYTES + length)?);
        length += label + 1;
        // 64 and more would be a pointer or no label at all, neither of which a query has.
        if label > 63 || length > 255 || HEADER_BYTES + length + TYPE_AND_CLASS > message.length {
            return None;
        }
        if label == 0 {
            return Some(length);
        }
    }
    None
}

/// A receive has returned `ret`.
#[inline(always)]
fn received(sk: &Sk, ret: i32) {
    if !sk.is_udp() || is_passing(ret) || !is_asker(sk) {
        return;
    }
    if ret < 0 {
        answered(sk, |record| record.errno = ret.unsigned_abs());
        return;
    }
    for index in 0..user_message::BATCH {
        let Some(message) = user_message::current(index) else { return };
        let Some([id, bits, _, answers]) = read_user::<[u16; 4]>(message.buffer) else { return };
        if u16::from_be(bits) & QR != 0 {
            answered(sk, |record| {
                record.id = u16::from_be(id);
                record.bits = u16::from_be(bits);
                record.answers = u16::from_be(answers);
            });
        }
    }
}

#[inline(always)]
fn answered(sk: &Sk, fill: impl FnOnce(&mut DnsAnswer)) {
    emit::queue::<DnsAnswer>(
        kind::DNS_ANSWER,
        |record| &mut record.header,
        |record| {
            // SAFETY: `sk` is the hook's socket; the helper only reads its cookie, or makes one.
            record.cookie = unsafe { bpf_get_socket_cookie(sk.as_ptr().cast_mut()) };
            fill(record);
        },
    );
}

/// Neither done nor failed.
#[inline(always)]
fn is_passing(ret: i32) -> bool {
    matches!(-ret, EINTR | EAGAIN | ERESTARTSYS)
}

#[inline(always)]
fn is_asker(sk: &Sk) -> bool {
    storage(sk, core::ptr::null_mut(), 0)
}

/// Marks a socket as one that asks.
#[inline(always)]
fn remember(sk: &Sk) -> bool {
    let mut one = 1_u32;
    storage(sk, &raw mut one, u64::from(aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn storage(sk: &Sk, value: *mut u32, flags: u64) -> bool {
    // SAFETY: `sk` is a socket that the kernel handed to the hook; the helper checks the rest.
    let found = unsafe {
        bpf_sk_storage_get(
            (&raw const ASKERS).cast_mut().cast(),
            sk.as_ptr().cast_mut().cast(),
            value.cast(),
            flags,
        )
    };
    !found.is_null()
}
