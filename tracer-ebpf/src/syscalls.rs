//! System calls, as they begin and end: the optional groups `connect-errors` and `unix`. Loaded only where one of
//! them was asked for, since the kernel takes its slow path into and out of every system call of the host while a
//! program is attached here.
//!
//! Calls of 32-bit and x32 programs have numbers of their own and are not looked at, nor is what io_uring does.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::config::group;

use crate::files::OpenSocket;
use crate::kread::Regs;
use crate::{connects, globals, unix};

/// `SHUT_RD` of include/linux/net.h: says nothing to the other end.
const SHUT_RD: u64 = 0;

/// `sys_exit(regs, ret)` (include/trace/events/syscalls.h); since Linux 2.6.
///
/// Sees how each system call of the host ended; looks at connect(2) alone. A connect that failed before a SYN was
/// sent leaves no other trace, nor does one to a Unix socket.
#[btf_tracepoint(function = "sys_exit")]
pub fn connect_exit(ctx: BtfTracePointContext) -> i32 {
    let regs = Regs::new(ctx.arg(0));
    if regs.system_call() != globals::syscall_connect() {
        return 0;
    }
    let ret = ctx.arg::<i64>(1);
    if ret != 0 {
        connects::failed(&regs, ret);
    } else if globals::has_group(group::UNIX) {
        unix::connected(&regs);
    }
    0
}

/// `sys_enter(regs, id)`; since Linux 2.6.
///
/// Sees each system call of the host as it begins; looks at close(2) and shutdown(2) of processes that are known
/// to use Unix sockets, since closing one leaves no other trace. Does not see close_range(2), nor what a dying
/// process leaves behind.
#[btf_tracepoint(function = "sys_enter")]
pub fn close_enter(ctx: BtfTracePointContext) -> i32 {
    let id = ctx.arg::<u64>(1);
    let closes = id == globals::syscall_close();
    if !closes && id != globals::syscall_shutdown() {
        return 0;
    }
    if !unix::current_uses_them() {
        return 0;
    }
    let regs = Regs::new(ctx.arg(0));
    if !closes && regs.second() == SHUT_RD {
        return 0;
    }
    if let Some(open) = OpenSocket::of_current(regs.first()) {
        unix::closing(&open, closes);
    }
    0
}
