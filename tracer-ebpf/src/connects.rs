//! Connects that failed, as the system call tells it.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use tracer_ebpf::config::group;
use tracer_ebpf::errno::EAGAIN;
use tracer_ebpf::wire::{ConnectError, connect_flag, kind};

use crate::files::OpenSocket;
use crate::kread::{AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, Regs, SOCK_STREAM, Sk, TaskRef};
use crate::maps::{self, owner_flag};
use crate::{emit, globals};

/// Address of the TCP socket whose connect failed last on this CPU, within its system call.
#[map]
static FAILED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Errors that say nothing of an upstream: of the call itself (a bad descriptor, address or socket), or that it
/// goes on (EINTR, EALREADY, EINPROGRESS).
const OF_THE_CALL: [u32; 8] = [4, 9, 14, 88, 97, 106, 114, 115];
/// Errors that fit into the return value of a system call but are none of these: the kernel's own (ERESTARTSYS).
const LAST_ERRNO: u32 = 133;

/// The change of state told of a connect that failed with `err`: `sys_exit`, which follows, need not tell it again.
/// Only within connect(2), which is where the owner holds the socket and an error comes; in close(2) none does.
#[inline(always)]
pub fn told(sk: &Sk, err: u32) {
    if !globals::has_group(group::CONNECT_ERRORS) || !sk.owned() || err == 0 {
        return;
    }
    if let Some(failed) = FAILED.get_ptr_mut(0) {
        // SAFETY: this CPU's entry of a per-CPU array.
        unsafe { *failed = sk.address() };
    }
}

/// connect(2) returned.
#[inline(always)]
pub fn failed(regs: &Regs, ret: i64) {
    // Taken by every connect(2), whatever it returns: the next socket may have the address of this one.
    let told = take_told();
    let errno = ret.wrapping_neg() as u32;
    if ret > 0 || errno > LAST_ERRNO || OF_THE_CALL.contains(&errno) {
        return;
    }
    let Some(open) = OpenSocket::of_current(regs.first()) else { return };
    let Some((family, sk_type, protocol)) = open.kind() else { return };
    if sk_type != SOCK_STREAM || globals::outside(|| TaskRef::current().netns()) {
        return;
    }
    let wanted = match family {
        AF_INET | AF_INET6 => {
            globals::has_group(group::CONNECT_ERRORS)
                && protocol == IPPROTO_TCP
                && errno != EAGAIN
                && told != open.skaddr
        }
        AF_UNIX => globals::has_group(group::UNIX),
        _ => false,
    };
    if wanted {
        queue(regs, &open, errno);
    }
}

#[inline(always)]
fn take_told() -> u64 {
    let Some(failed) = FAILED.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's entry of a per-CPU array.
    core::mem::take(unsafe { &mut *failed })
}

#[inline(always)]
fn queue(regs: &Regs, open: &OpenSocket, errno: u32) {
    let (address, length) = (regs.second(), regs.third());
    let _ = emit::queue::<ConnectError>(
        kind::CONNECT_ERROR,
        |record| &mut record.header,
        |record| {
            let current = TaskRef::current();
            current.describe(&mut record.owner);
            if maps::owner_flags(record.owner.tgid) & owner_flag::ACCEPTS != 0 {
                record.flags |= connect_flag::OWNER_ACCEPTS;
            }
            record.skaddr = open.skaddr;
            record.errno = errno;
            record.netns = current.netns();
            record.address_len = read_address(address, length, &mut record.address);
        },
    );
}

/// Copies a socket address from the process; returns how many bytes it has, 0 if it cannot be read.
#[inline(always)]
pub fn read_address(address: u64, length: u64, into: &mut [u8; 112]) -> u32 {
    // `struct sockaddr_un` is the longest of those that are looked at, with 110 bytes.
    let length = length as u32 & 0x7f;
    if length > 110 {
        return 0;
    }
    // SAFETY: the helper reads any address of the process, and fails for one that is none.
    let done = unsafe { bpf_probe_read_user(into.as_mut_ptr().cast(), length, address as *const _) };
    if done == 0 { length } else { 0 }
}
