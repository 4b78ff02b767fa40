//! `tcp_fin`: a FIN was received. The state change that follows says the same; this one makes it certain
//! that it was a FIN, and is asked for where the kernel takes fentry or kprobes.

use aya_ebpf::macros::{fentry, kprobe};
use aya_ebpf::programs::{FEntryContext, ProbeContext};

use crate::maps;

/// `tcp_fin(sk)` (net/ipv4/tcp_input.c), a function since Linux 2.6; by fentry since 5.5.
///
/// Runs before the state changes, on the same CPU. Sees every FIN that is in order, whatever the state.
#[fentry(function = "tcp_fin")]
pub fn tcp_fin_fentry(ctx: FEntryContext) -> i32 {
    note(ctx.arg::<u64>(0));
    0
}

/// The same by kprobe, where fentry is refused.
#[kprobe]
pub fn tcp_fin_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(skaddr) = ctx.arg::<u64>(0) {
        note(skaddr);
    }
    0
}

#[inline(always)]
fn note(skaddr: u64) {
    if let Some(hints) = maps::hints() {
        // SAFETY: this CPU's entry of a per-CPU array.
        unsafe { (*hints).fin = skaddr };
    }
}
