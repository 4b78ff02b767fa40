//! Processes: how those that own sockets end, and who sent the signal.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::wire::{OomVictim, ProcessExit, Signal, kind};

use crate::emit;
use crate::globals;
use crate::kread::{PF_KTHREAD, TaskRef};
use crate::maps::{self, owner_flag};

/// HUP INT QUIT ILL ABRT BUS FPE KILL SEGV USR2 PIPE TERM XCPU SYS: what ends a program, or tells it to.
const FATAL: u64 = 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 15
    | 1 << 24
    | 1 << 31;
/// `TRACE_SIGNAL_DELIVERED` of include/trace/events/signal.h; the others were ignored or dropped.
const DELIVERED: i32 = 0;

/// `sched_process_exit(task[, group_dead])`, in `do_exit` (kernel/exit.c), before the files are closed;
/// since Linux 2.6.
///
/// Sees every thread; only the last of a process that owns sockets is told. The sockets that it closes
/// afterwards carry the exit status themselves.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let Some(task) = TaskRef::new(ctx.arg(0)) else { return 0 };
    if task.live_threads() != 0
        || maps::owner_flags(task.tgid()) & owner_flag::TOLD == 0
        || globals::outside(|| task.netns())
    {
        return 0;
    }
    emit::queue::<ProcessExit>(
        kind::PROCESS_EXIT,
        |record| &mut record.header,
        |record| task.describe(&mut record.task),
    );
    0
}

/// `signal_generate(sig, info, task, group, result)`, in `__send_signal_locked` (kernel/signal.c); since
/// Linux 2.6.33.
///
/// Runs in the sender (the OOM killer: whoever allocated). `info` is only compared: since 6.12 the verifier
/// takes it for a number. A signal raised by an interrupt has a bystander as its sender; those among FATAL
/// are raised by the target itself, by a process, or by the kernel.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    let signal = ctx.arg::<u32>(0);
    if signal > 31 || FATAL & (1 << signal) == 0 || ctx.arg::<i32>(4) != DELIVERED {
        return 0;
    }
    let Some(target) = TaskRef::new(ctx.arg(2)) else { return 0 };
    if globals::outside(|| target.netns()) {
        return 0;
    }
    let info = ctx.arg::<u64>(1);
    emit::queue::<Signal>(
        kind::SIGNAL,
        |record| &mut record.header,
        |record| {
            record.signal = signal;
            record.info = if info < 2 { info as u32 } else { 2 };
            target.describe(&mut record.target);
            let sender = TaskRef::current();
            if sender.flags() & PF_KTHREAD == 0 {
                sender.describe(&mut record.sender);
            }
        },
    );
    0
}

/// `mark_victim(task, uid)`, in `__oom_kill_process` (mm/oom_kill.c); with the task since Linux 6.9 and in
/// stable kernels, before that with a pid only (not attached then).
///
/// After the signal, before the death. What the dying process closes carries the mark as well.
#[btf_tracepoint(function = "mark_victim")]
pub fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    let Some(task) = TaskRef::new(ctx.arg(0)) else { return 0 };
    if !globals::outside(|| task.netns()) {
        emit::queue::<OomVictim>(
            kind::OOM_VICTIM,
            |record| &mut record.header,
            |record| task.describe(&mut record.task),
        );
    }
    0
}
