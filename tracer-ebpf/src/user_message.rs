//! The messages of the system call that runs: where the process keeps what it sends or receives.
//!
//! Read from the registers with which `current` entered the kernel, so only in process context. System calls of a
//! 32-bit process and io_uring have other numbers and are passed over.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs};

use crate::kread::Regs;

/// Messages of a `sendmmsg` or `recvmmsg` that are looked at, at each of its messages: glibc sends two at most.
pub const BATCH: u64 = 2;

/// System call numbers of x86_64 (arch/x86/entry/syscalls/syscall_64.tbl).
mod call {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
}

/// Bytes of a `struct mmsghdr`: a `struct user_msghdr` of 56, a length, and padding.
const MMSGHDR_BYTES: u64 = 64;

/// A message in the process's memory.
#[derive(Clone, Copy)]
pub struct Message {
    /// `struct sockaddr` of the peer, 0 if none was given.
    pub name: u64,
    /// The first buffer, and its size.
    pub buffer: u64,
    pub length: u64,
}

/// The message number `index` of the system call that runs.
#[inline(always)]
pub fn current(index: u64) -> Option<Message> {
    // SAFETY: there always is a current task, and it has registers; the verifier knows both types.
    let regs = Regs::new(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8);
    let (argument, length) = (regs.second(), regs.third());
    match regs.system_call() {
        call::SENDMMSG | call::RECVMMSG if index < length => header(argument + index * MMSGHDR_BYTES),
        _ if index != 0 => None,
        call::READ | call::WRITE | call::RECVFROM => Some(Message { name: 0, buffer: argument, length }),
        call::SENDTO => Some(Message { name: regs.fifth(), buffer: argument, length }),
        call::SENDMSG | call::RECVMSG => header(argument),
        call::READV | call::WRITEV => vector(0, argument),
        _ => None,
    }
}

/// Of a `struct user_msghdr`: name, its length, the vector of buffers.
#[inline(always)]
fn header(at: u64) -> Option<Message> {
    let [name, _, buffers] = read_user::<[u64; 3]>(at)?;
    vector(name, buffers)
}

/// Of the first `struct iovec` at `at`.
#[inline(always)]
fn vector(name: u64, at: u64) -> Option<Message> {
    let [buffer, length] = read_user::<[u64; 2]>(at)?;
    Some(Message { name, buffer, length })
}

/// Copies a `T` out of the process's memory. None if it is not there, or not resident.
#[inline(always)]
pub fn read_user<T: Copy + Default>(at: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper writes no more than the size of `value`, and every `T` here is integers.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, at as *const _) };
    (failed == 0).then_some(value)
}
