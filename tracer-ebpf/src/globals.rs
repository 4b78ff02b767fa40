//! The frozen globals: what the agent tells the programs before they are loaded. The verifier knows their values,
//! and prunes what they rule out.

use core::ptr;

use aya_ebpf::Global;
use tracer_ebpf::config::MISSING;
use tracer_ebpf::offsets::Offsets;

/// Offsets of kernel members, filled in by the agent before the load and frozen.
#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> = Global::new(Offsets::UNSET);

/// Inode number of the one network namespace that is looked at; 0: all of them (`--vantage`).
#[unsafe(no_mangle)]
static VANTAGE: Global<u32> = Global::new(0);

/// 1 if `tcp_send_reset` has a third argument, `enum sk_rst_reason` (Linux 6.10).
#[unsafe(no_mangle)]
static HAS_RESET_REASON: Global<u32> = Global::new(0);

/// Jiffies in a second.
#[unsafe(no_mangle)]
static HZ: Global<u32> = Global::new(250);
/// Numbers in the running kernel's `enum skb_drop_reason`, `MISSING` where it has no such reason: NETFILTER_DROP,
/// TCP_LISTEN_OVERFLOW, NEIGH_FAILED.
#[unsafe(no_mangle)]
static DROP_REASONS: Global<[u32; 3]> = Global::new([MISSING; 3]);

/// Numbers in the running kernel's `enum sk_rst_reason`, `MISSING` where it has no such reason: TCP_ABORT_ON_LINGER,
/// TCP_ABORT_ON_MEMORY.
#[unsafe(no_mangle)]
static ABORT_REASONS: Global<[u32; 2]> = Global::new([MISSING; 2]);

/// Bits of `config::group`: the optional groups that were asked for.
#[unsafe(no_mangle)]
static GROUPS: Global<u32> = Global::new(0);

/// 1 if programs may read the kernel's memory by address (`bpf_probe_read_kernel`), which lockdown=confidentiality refuses.
#[unsafe(no_mangle)]
static MAY_READ_MEMORY: Global<u32> = Global::new(0);

/// Numbers of connect(2), close(2) and shutdown(2) on this architecture.
#[unsafe(no_mangle)]
static SYSCALLS: Global<[u32; 3]> = Global::new([0; 3]);

/// 1 if the programs may write to the agent's log (`--debug-programs`); otherwise the verifier prunes it.
#[unsafe(no_mangle)]
static DEBUG_PROGRAMS: Global<u32> = Global::new(0);

#[inline(always)]
pub fn debugging() -> bool {
    DEBUG_PROGRAMS.load() != 0
}

/// One member's offset. The volatile read of a frozen global is a constant to the verifier.
macro_rules! offset {
    ($member:ident) => {
        $crate::globals::offset_at(core::mem::offset_of!(tracer_ebpf::offsets::Offsets, $member))
    };
}
pub(crate) use offset;

/// Reads the word at `at` bytes inside `OFFSETS`.
#[inline(always)]
pub fn offset_at(at: usize) -> usize {
    // SAFETY: `at` comes from `offset_of!`, so it is inside the table and aligned for its u32 fields.
    unsafe { ptr::read_volatile((&raw const OFFSETS).cast::<u8>().add(at).cast::<u32>()) as usize }
}

/// Outside the one namespace that is looked at. Without `--vantage` nothing is, and the namespace is not read.
#[inline(always)]
pub fn outside(netns: impl FnOnce() -> u32) -> bool {
    VANTAGE.load() != 0 && VANTAGE.load() != netns()
}

/// First words of an IPv4 address that is spelled as an IPv6 one.
///
/// They are kept where the programs might write, so that the verifier does not know them. As constants they made each
/// IPv4 address another state than an IPv6 one, and what follows was verified once for each: twice as many steps.
#[unsafe(no_mangle)]
static mut MAPPED: [u32; 2] = [0, 0xffff_u32.to_be()];

/// `::ffff:0:0/96`, as words in network order.
#[inline(always)]
pub fn mapped_prefix() -> [u32; 3] {
    // SAFETY: nobody writes to it, and it has two words.
    let word = |at| unsafe { ptr::read_volatile((&raw const MAPPED).cast::<u32>().add(at)) };
    [word(0), word(0), word(1)]
}

/// Jiffies in a second.
#[inline(always)]
pub fn hz() -> u32 {
    HZ.load()
}

#[inline(always)]
pub fn has_vantage() -> bool {
    VANTAGE.load() != 0
}

/// Whether a group of hooks is asked for (a bit of `config::group`); the verifier prunes what is not.
#[inline(always)]
pub fn has_group(bit: u32) -> bool {
    GROUPS.load() & bit != 0
}

#[inline(always)]
pub fn syscall_connect() -> u64 {
    syscall(0)
}

#[inline(always)]
pub fn syscall_close() -> u64 {
    syscall(1)
}

#[inline(always)]
pub fn syscall_shutdown() -> u64 {
    syscall(2)
}

#[inline(always)]
fn syscall(index: usize) -> u64 {
    // SAFETY: the table has three words.
    u64::from(unsafe { ptr::read_volatile((&raw const SYSCALLS).cast::<u32>().add(index)) })
}

#[inline(always)]
pub fn has_reset_reason() -> bool {
    HAS_RESET_REASON.load() != 0
}

#[inline(always)]
pub fn may_read_memory() -> bool {
    MAY_READ_MEMORY.load() != 0
}

/// Why a packet was dropped, as far as it matters.
pub enum DropReason {
    Netfilter,
    ListenOverflow,
    Neighbour,
    Other,
}

#[inline(always)]
pub fn drop_reason(number: u32) -> DropReason {
    let [netfilter, overflow, neighbour] = DROP_REASONS.load();
    match number {
        _ if number == netfilter => DropReason::Netfilter,
        _ if number == overflow => DropReason::ListenOverflow,
        _ if number == neighbour => DropReason::Neighbour,
        _ => DropReason::Other,
    }
}

/// What a RST was sent for, where the kernel counts that apart and says so (some time after Linux 6.10).
pub enum AbortReason {
    Linger,
    Memory,
    Other,
}

#[inline(always)]
pub fn abort_reason(number: u32) -> AbortReason {
    let [linger, memory] = ABORT_REASONS.load();
    match number {
        // No reason is known.
        MISSING => AbortReason::Other,
        _ if number == linger => AbortReason::Linger,
        _ if number == memory => AbortReason::Memory,
        _ => AbortReason::Other,
    }
}
