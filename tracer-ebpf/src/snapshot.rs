//! What existed before the programs were attached: all sockets of all processes, in every network namespace.
//!
//! Read twice by the agent. The first pass notes the ports that are listened on; the second (with
//! `SNAPSHOT_MARK`) can therefore tell accepted sockets from connected ones, gives the latter their mark,
//! and reports every socket with the process that holds it. Later, with `SNAPSHOT_ASKED`, it reports the sockets
//! between the ports in `ASKED`: whether an accepted socket is still there, how full a listener's queue is.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_sock_from_file};
use tracer_ebpf::config::flag as config_flag;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{Snapshot, Task, kind, phase, role};

use crate::emit;
use crate::globals;
use crate::kread::{Sk, TaskRef, Tcp, socket_sk};
use crate::maps::{self, owner_flag};
use crate::marks::{self, Mark, Memory, mark_flag};

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c); stable interface.
#[repr(C)]
pub struct TaskFile {
    meta: *const Meta,
    task: *const c_void,
    fd: u32,
    file: *const c_void,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct Meta {
    seq: *mut c_void,
    session_id: u64,
    seq_num: u64,
}

/// `iter/task_file`, since Linux 5.8; `bpf_sock_from_file` since 5.11.
///
/// Sees each file of each process. Does not see connections that wait to be accepted: they have no file.
///
/// # Safety
/// Called by the kernel with the iterator's context.
#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn snapshot(ctx: *const TaskFile) -> i32 {
    // SAFETY: the context is valid for the call; volatile, so that each pointer is loaded as such.
    let (file, task) =
        unsafe { (ptr::read_volatile(&raw const (*ctx).file), ptr::read_volatile(&raw const (*ctx).task)) };
    if file.is_null() || task.is_null() {
        return 0;
    }
    // SAFETY: the helper returns null for a file that is no socket.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) };
    if socket.is_null() {
        return 0;
    }
    let Some(sk) = socket_sk(socket.cast_const().cast()) else { return 0 };
    let Some(tcp) = sk.tcp() else { return 0 };
    if globals::outside(|| sk.net().inum()) {
        return 0;
    }
    let state = sk.state();
    let asked = maps::config() & config_flag::SNAPSHOT_ASKED != 0;
    if asked {
        // SAFETY: the value is one aligned u32.
        if unsafe { maps::ASKED.get(ports(&sk, &tcp)) }.is_none() {
            return 0;
        }
    } else if maps::config() & config_flag::SNAPSHOT_MARK == 0 {
        if state == s::LISTEN {
            let _ = maps::LISTEN_PORTS.insert(port_key(&sk, tcp.local_port()), 1, 0);
        }
        return 0;
    }
    let Some(task) = TaskRef::new(task) else { return 0 };
    let mut record = Snapshot { header: emit::header::<Snapshot>(kind::SNAPSHOT), ..Snapshot::default() };
    task.describe(&mut record.task);
    record.skaddr = sk.address();
    record.netns_cookie = sk.net().cookie();
    sk.tuple(tcp.local_port(), &mut record.tuple);
    record.sk_state = u32::from(state);
    record.backlog_limit = sk.backlog_limit();
    record.backlog = sk.backlog();
    if state == s::LISTEN {
        // Its end is told, so that it does not pass for a holder for ever.
        maps::remember_owner(record.task.tgid, owner_flag::OWNS);
    }
    if asked {
        // Whoever asks knows which role he asks for.
        record.role =
            if marks::mark(&sk).is_some() { u32::from(role::CLIENT) } else { u32::from(role::SERVER) };
    } else if state != s::LISTEN && state != s::CLOSE {
        // (One that is bound and no more is nobody's connection, whoever listens at its port.)
        record.role = note_connection(&sk, &tcp, state, &record.task);
    }
    // SAFETY: meta and seq are the iterator's own; the record is on this program's stack.
    unsafe {
        let meta = ptr::read_volatile(&raw const (*ctx).meta);
        let seq = ptr::read_volatile(&raw const (*meta).seq);
        bpf_seq_write(seq.cast(), (&raw const record).cast_mut().cast(), size_of::<Snapshot>() as u32);
    }
    0
}

/// Returns the role, and gives a socket that connected its mark.
#[inline(always)]
fn note_connection(sk: &Sk, tcp: &Tcp, state: u8, task: &Task) -> u32 {
    // SAFETY: the value is one aligned u32.
    if unsafe { maps::LISTEN_PORTS.get(port_key(sk, tcp.local_port())) }.is_some() {
        maps::remember_owner(task.tgid, owner_flag::OWNS | owner_flag::ACCEPTS);
        return u32::from(role::SERVER);
    }
    if state == s::ESTABLISHED && marks::mark(sk).is_none() {
        let mut memory =
            Memory { phase: phase::ANSWERED as u32, flags: mark_flag::PREEXISTING, ..Memory::default() };
        // It last received, and that was read: nothing is pending. Within one tick the order is not known.
        let answered = (tcp.lrcvtime().wrapping_sub(tcp.lsndtime()) as i32) > 0;
        if answered && tcp.rcv_nxt() == tcp.copied_seq() {
            memory.read_mark = tcp.write_seq();
            memory.flags |= mark_flag::MARKED;
        }
        marks::note_existing(sk, &mut Mark { opened_ns: 0, memory, reserved: 0, owner: *task });
        maps::remember_owner(task.tgid, owner_flag::OWNS);
    }
    u32::from(role::CLIENT)
}

#[inline(always)]
fn port_key(sk: &Sk, local_port: u16) -> u64 {
    u64::from(sk.net().inum()) << 32 | u64::from(local_port)
}

/// Key of `ASKED`: the local port, then the peer's (0 for a listener).
#[inline(always)]
fn ports(sk: &Sk, tcp: &Tcp) -> u32 {
    u32::from(tcp.local_port()) << 16 | u32::from(sk.peer_port())
}
