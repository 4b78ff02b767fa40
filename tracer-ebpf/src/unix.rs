//! Unix stream sockets: the optional group `unix`.
//!
//! A Unix socket has no states to trace and no packets. What can be seen is each message as it is handed over
//! (`sock_send_length`, `sock_recv_length`), connect(2), close(2) and shutdown(2). The socket that connected has a
//! mark, found by its address: the descriptor of a system call leads to no pointer that socket storage would take.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::config::flag as config_flag;
use tracer_ebpf::config::limit;
use tracer_ebpf::errno;
use tracer_ebpf::wire::{UnixConnection, UnixEnd, UnixServer, kind, unix_flag, unix_how};

use crate::connects::read_address;
use crate::files::OpenSocket;
use crate::kread::{AF_UNIX, Regs, SOCK_STREAM, Sk, TaskRef, UnixSk};
use crate::maps::{self, owner_flag};
use crate::shares::Origin;
use crate::{emit, globals};

/// Sockets that connected, by the address of their `struct sock`.
#[map]
static UNIX_SOCKETS: LruHashMap<u64, UnixConnection> =
    LruHashMap::with_max_entries(limit::UNIX_SOCKETS as u32, 0);

/// Where a mark is made: it is too large for the stack.
#[map]
static UNIX_SCRATCH: PerCpuArray<UnixConnection> = PerCpuArray::with_max_entries(1, 0);

const EPIPE: i32 = -(errno::EPIPE as i32);
const ECONNRESET: i32 = -(errno::ECONNRESET as i32);
/// `MSG_PEEK` of include/linux/socket.h.
const MSG_PEEK: i32 = 2;
/// `RCV_SHUTDOWN` of include/net/sock.h: the other end sends no more.
const RCV_SHUTDOWN: u8 = 1;
/// `sa_family_t` before the path.
const FAMILY_BYTES: u32 = 2;

type Mark = *mut UnixConnection;

/// `sock_send_length(sk, ret, flags)`, in `sock_sendmsg` (net/socket.c); since Linux 6.3.
///
/// Sees what became of each message that a process sends on any socket, with `current` the sender.
#[btf_tracepoint(function = "sock_send_length")]
pub fn unix_sent(ctx: BtfTracePointContext) -> i32 {
    let ret = ctx.arg::<i32>(1);
    if let Some(sk) = stream(ctx.arg(0)) {
        match client_mark(&sk, true) {
            Some(mark) => client_sent(&sk, mark, ret),
            None => server_sent(&sk, ret),
        }
    }
    0
}

/// `sock_recv_length(sk, ret, flags)`, in `sock_recvmsg` (net/socket.c); since Linux 6.3.
///
/// Sees each read from any socket, with `current` the reader; 0 is the end of the stream, negative an error.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn unix_received(ctx: BtfTracePointContext) -> i32 {
    let ret = ctx.arg::<i32>(1);
    if ctx.arg::<i32>(2) & MSG_PEEK != 0 {
        return 0;
    }
    if let Some(sk) = stream(ctx.arg(0)) {
        match client_mark(&sk, false) {
            Some(mark) => client_received(&sk, mark, ret),
            None if ret > 0 => note_server(&sk, true),
            None => {}
        }
    }
    0
}

/// connect(2) to a Unix socket succeeded: the socket gets its mark, with the path that was dialled.
#[inline(always)]
pub fn connected(regs: &Regs) {
    let Some(open) = OpenSocket::of_current(regs.first()) else { return };
    let Some((AF_UNIX, SOCK_STREAM, _)) = open.kind() else { return };
    let current = TaskRef::current();
    if globals::outside(|| current.netns()) {
        return;
    }
    let Some(mark) = scratch() else { return };
    mark.ino = open.ino;
    mark.opened_ns = now();
    mark.path_len = read_address(regs.second(), regs.third(), &mut mark.address).saturating_sub(FAMILY_BYTES);
    mark.netns = current.netns();
    current.describe(&mut mark.owner);
    maps::remember_owner(mark.owner.tgid, owner_flag::UNIX);
    let made: &UnixConnection = mark;
    let _ = UNIX_SOCKETS.insert(open.skaddr, made, 0);
}

/// `current` has connected or accepted Unix sockets.
#[inline(always)]
pub fn current_uses_them() -> bool {
    maps::owner_flags((bpf_get_current_pid_tgid() >> 32) as u32) & owner_flag::UNIX != 0
}

/// `current` is about to close a socket, or to shut it down.
#[inline(always)]
pub fn closing(open: &OpenSocket, closes: bool) {
    let Some((AF_UNIX, SOCK_STREAM, _)) = open.kind() else { return };
    if (closes && !open.is_last()) || globals::outside(|| TaskRef::current().netns()) {
        return;
    }
    if let Some(mark) = UNIX_SOCKETS.get_ptr_mut(open.skaddr) {
        // Shutting down the sending side is how some clients end a request: they still wait for the answer.
        if closes {
            client_closes(open, mark);
        }
        return;
    }
    if let Some(mark) = UNIX_SOCKETS.get_ptr_mut(open.unix_peer()) {
        // SAFETY: a map value, which stays valid while the program runs.
        unsafe { (*mark).flags |= unix_flag::SERVER_CLOSED };
    }
}

#[inline(always)]
fn client_closes(open: &OpenSocket, mark: Mark) {
    // SAFETY: a map value, which stays valid while the program runs.
    let known = unsafe { &mut *mark };
    if known.ino == open.ino && known.flags & unix_flag::TOLD == 0 {
        let pending = known.flags & unix_flag::PENDING != 0;
        if pending || maps::config() & config_flag::ALL_ENDS != 0 {
            queue(open.skaddr, known, unix_how::CLOSED, 0);
        }
    }
    let _ = UNIX_SOCKETS.remove(open.skaddr);
}

#[inline(always)]
fn client_sent(sk: &Sk, mark: Mark, ret: i32) {
    // SAFETY: a map value, which stays valid while the program runs.
    let known = unsafe { &mut *mark };
    if ret > 0 {
        known.bytes_sent += ret as u64;
        known.sent_ns = now();
        known.flags |= unix_flag::PENDING;
    } else if ret == EPIPE || ret == ECONNRESET {
        // What could not be sent any more was to be a request, or the rest of one.
        end(sk, known, unix_how::BROKEN, ret);
    }
}

#[inline(always)]
fn client_received(sk: &Sk, mark: Mark, ret: i32) {
    // SAFETY: a map value, which stays valid while the program runs.
    let known = unsafe { &mut *mark };
    if ret > 0 {
        known.bytes_received += ret as u64;
        known.received_ns = now();
        if known.flags & unix_flag::PENDING != 0 {
            known.flags &= !unix_flag::PENDING;
            known.exchanges += 1;
        }
    } else if ret == ECONNRESET {
        end(sk, known, unix_how::RESET, ret);
    } else if ret == 0 && sk.shutdown() & RCV_SHUTDOWN != 0 {
        let pending = known.flags & unix_flag::PENDING != 0;
        if pending || maps::config() & config_flag::ALL_ENDS != 0 {
            end(sk, known, unix_how::END_OF_STREAM, 0);
        }
    }
}

/// The other end of the connection is gone, or says no more.
#[inline(always)]
fn end(sk: &Sk, known: &mut UnixConnection, how: u32, ret: i32) {
    if known.flags & unix_flag::TOLD == 0 {
        known.flags |= unix_flag::TOLD;
        queue(sk.address(), known, how, ret.wrapping_neg() as u32);
    }
}

/// A message on a socket that did not connect: it was accepted, and `current` is the server.
#[inline(always)]
fn server_sent(sk: &Sk, ret: i32) {
    if ret > 0 {
        note_server(sk, false);
    } else if ret == EPIPE
        && !globals::outside(|| TaskRef::current().netns())
        && let Some(client) = sk.unix().and_then(|own| own.peer())
        && let Some(mark) = UNIX_SOCKETS.get_ptr_mut(client.address())
    {
        // SAFETY: a map value, which stays valid while the program runs.
        let known = unsafe { &mut *mark };
        // The answer came too late for a client whose close was not seen: it died, or has other ways to close.
        if known.flags & unix_flag::PENDING != 0 {
            end(&client, known, unix_how::OWNER_GONE, ret);
        }
    }
}

/// Notes at the client's mark which process serves it.
#[inline(always)]
fn note_server(sk: &Sk, reads: bool) {
    let Some(client) = sk.unix().and_then(|own| own.peer()) else { return };
    let Some(mark) = UNIX_SOCKETS.get_ptr_mut(client.address()) else { return };
    // SAFETY: a map value, which stays valid while the program runs.
    let known = unsafe { &mut *mark };
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if known.server.tgid == tgid {
        if reads {
            known.served_ns = now();
        }
        return;
    }
    let current = TaskRef::current();
    // From the gateway alone, who serves it cannot be seen.
    if globals::outside(|| current.netns()) {
        return;
    }
    current.describe(&mut known.server);
    known.served_ns = now();
    let first = maps::owner_flags(tgid) & owner_flag::SERVES_UNIX == 0;
    maps::remember_owner(
        tgid,
        owner_flag::OWNS | owner_flag::ACCEPTS | owner_flag::UNIX | owner_flag::SERVES_UNIX,
    );
    if first {
        emit::queue::<UnixServer>(
            kind::UNIX_SERVER,
            |record| &mut record.header,
            |record| record.connection = *known,
        );
        // The master of a worker, whose end says more than the worker's.
        maps::remember_owner(known.listener_tgid, owner_flag::OWNS);
    }
}

/// The mark of a socket that connected. One that connected unseen (before the start) is known by its names: it has
/// none, and the socket at the other end, which was accepted, has that of its listener.
#[inline(always)]
fn client_mark(sk: &Sk, sends: bool) -> Option<Mark> {
    if let Some(mark) = UNIX_SOCKETS.get_ptr_mut(sk.address()) {
        // SAFETY: a map value, which stays valid while the program runs.
        let known = unsafe { &mut *mark };
        // The address is used again by the next socket.
        if known.ino == sk.ino() {
            if known.listener_tgid == 0 && !globals::has_vantage() {
                known.listener_tgid = sk.peer_tgid();
            }
            return Some(mark);
        }
    }
    let own = sk.unix()?;
    if !sends || own.has_name() {
        return None;
    }
    let server = own.peer()?.unix()?;
    if !server.has_name() || globals::outside(|| sk.net().inum()) {
        return None;
    }
    let mark = scratch()?;
    mark.ino = sk.ino();
    mark.flags = unix_flag::PREEXISTING;
    mark.path_len = server.name(&mut mark.address);
    mark.netns = sk.net().inum();
    TaskRef::current().describe(&mut mark.owner);
    maps::remember_owner(mark.owner.tgid, owner_flag::UNIX);
    let made: &UnixConnection = mark;
    let _ = UNIX_SOCKETS.insert(sk.address(), made, 0);
    UNIX_SOCKETS.get_ptr_mut(sk.address())
}

#[inline(always)]
fn stream(sk: *const core::ffi::c_void) -> Option<Sk> {
    Sk::new(sk).filter(|sk| sk.family() == AF_UNIX && sk.sk_type() == SOCK_STREAM)
}

#[inline(always)]
fn queue(skaddr: u64, connection: &UnixConnection, how: u32, errno: u32) {
    let _ = emit::queue_of::<UnixEnd>(
        Origin::path(&connection.address),
        kind::UNIX_END,
        |record| &mut record.header,
        |record| {
            record.connection = *connection;
            record.skaddr = skaddr;
            record.how = how;
            record.errno = errno;
            if maps::owner_flags(connection.owner.tgid) & owner_flag::ACCEPTS != 0 {
                record.connection.flags |= unix_flag::OWNER_ACCEPTS;
            }
        },
    );
}

/// This CPU's place to make a mark, cleared.
#[inline(always)]
fn scratch() -> Option<&'static mut UnixConnection> {
    let scratch = UNIX_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's entry of a per-CPU array; the hooks that use it run in process context and not within
    // each other.
    let scratch = unsafe { &mut *scratch };
    *scratch = UnixConnection::default();
    Some(scratch)
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}

impl UnixSk {
    /// Copies the name that it is bound to behind where a family would stand; returns the bytes of the name.
    #[inline(always)]
    fn name(&self, into: &mut [u8; 112]) -> u32 {
        let (address, length) = self.bound();
        let length = (length as u32).wrapping_sub(FAMILY_BYTES) & 0x7f;
        if length > 108 {
            return 0;
        }
        // SAFETY: 2 and 108 bytes are inside of the 112.
        let place = unsafe { into.as_mut_ptr().add(FAMILY_BYTES as usize) };
        let from = (address as *const u8).wrapping_add(FAMILY_BYTES as usize);
        // SAFETY: the helper reads any address, and fails for one that is not the kernel's.
        let done = unsafe { bpf_probe_read_kernel(place.cast(), length, from.cast()) };
        if done == 0 { length } else { 0 }
    }
}
