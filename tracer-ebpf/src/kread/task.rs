//! `struct task_struct`, and the registers of a system call.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use core::ffi::c_void;
use core::ptr;
use tracer_ebpf::config::MISSING;
use tracer_ebpf::wire::Task;

use super::{NetRef, Raw, load};
use crate::globals::offset;

/// `PF_EXITING` of include/linux/sched.h.
pub const PF_EXITING: u32 = 0x4;
/// `PF_KTHREAD` of include/linux/sched.h.
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// `struct task_struct`.
#[derive(Clone, Copy)]
pub struct TaskRef(Raw);

impl TaskRef {
    /// A task that a hook got as an argument.
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Option<Self> {
        if pointer.is_null() { None } else { Some(Self(pointer.cast())) }
    }

    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: there always is a current task; the verifier knows the type of what is returned.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    #[inline(always)]
    pub fn tgid(&self) -> u32 {
        load!(self.0, task_tgid as u32)
    }

    #[inline(always)]
    pub fn flags(&self) -> u32 {
        load!(self.0, task_flags as u32)
    }

    /// As wait(2) packs it; 0 while the task lives.
    #[inline(always)]
    pub fn exit_code(&self) -> u32 {
        load!(self.0, task_exit_code as u32)
    }

    /// Threads of the process that have not gone yet; 0 in `sched_process_exit` of the last.
    #[inline(always)]
    pub fn live_threads(&self) -> u32 {
        let signal = load!(self.0, task_signal as Raw);
        load!(signal, signal_live as u32)
    }

    /// Its number as a thread.
    #[inline(always)]
    pub fn tid(&self) -> u32 {
        load!(self.0, task_pid as u32)
    }

    /// Inode number of [`TaskRef::net`]; 0 for none.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        self.net().map_or(0, |net| net.inum())
    }

    /// A dying task gives it up; its sockets say where they were.
    #[inline(always)]
    pub fn net(&self) -> Option<NetRef> {
        let nsproxy = load!(self.0, task_nsproxy as Raw);
        if nsproxy.is_null() { None } else { Some(NetRef(load!(nsproxy, nsproxy_net_ns as Raw))) }
    }

    /// Address of the array of its open files, and how many there may be.
    #[inline(always)]
    pub fn open_files(&self) -> Option<(u64, u32)> {
        let files = load!(self.0, task_files as Raw);
        if files.is_null() {
            return None;
        }
        let table = load!(files, files_fdt as Raw);
        if table.is_null() {
            return None;
        }
        Some((load!(table, fdt_fd as u64), load!(table, fdt_max_fds as u32)))
    }

    #[inline(always)]
    pub fn describe(&self, into: &mut Task) {
        let leader = load!(self.0, task_group_leader as Raw);
        let parent = load!(leader, task_real_parent as Raw);
        into.tgid = self.tgid();
        into.flags = self.flags();
        into.exit_code = self.exit_code();
        into.start_boottime = load!(leader, task_start_boottime as u64);
        into.parent_tgid = load!(parent, task_tgid as u32);
        // The parent is the thread that forked.
        let parent_leader = load!(parent, task_group_leader as Raw);
        into.parent_start_boottime = load!(parent_leader, task_start_boottime as u64);
        into.cgroup_id = self.cgroup_id();
        into.netns = self.netns();
        into.oom = u32::from(self.oom());
        write_comm(&mut into.comm, leader);
    }

    #[inline(always)]
    fn oom(&self) -> bool {
        if offset!(signal_oom_mm) == MISSING as usize {
            return false;
        }
        let signal = load!(self.0, task_signal as Raw);
        load!(signal, signal_oom_mm as u64) != 0
    }

    #[inline(always)]
    fn cgroup_id(&self) -> u64 {
        let css_set = load!(self.0, task_cgroups as Raw);
        if css_set.is_null() {
            return 0;
        }
        let cgroup = load!(css_set, css_set_dfl_cgrp as Raw);
        if cgroup.is_null() {
            return 0;
        }
        let node = load!(cgroup, cgroup_kn as Raw);
        if node.is_null() {
            return 0;
        }
        load!(node, kernfs_node_id as u64)
    }
}

/// `comm` is an array of 16 bytes: two loads of eight.
#[inline(always)]
fn write_comm(into: &mut [u8; 16], task: Raw) {
    // SAFETY: as in `load!`; the second load stays inside the array.
    let words: [u64; 2] = unsafe {
        let comm = task.add(offset!(task_comm));
        [ptr::read_volatile(comm.cast()), ptr::read_volatile(comm.add(8).cast())]
    };
    // SAFETY: both are 16 bytes, and `Task` keeps its comm at a multiple of eight.
    unsafe { ptr::write(into.as_mut_ptr().cast(), words) };
}

/// `struct pt_regs`: the registers with which a task entered the kernel.
#[derive(Clone, Copy)]
pub struct Regs(Raw);

impl Regs {
    #[inline(always)]
    pub fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub fn system_call(&self) -> u64 {
        load!(self.0, regs_orig_ax as u64)
    }

    #[inline(always)]
    pub fn first(&self) -> u64 {
        load!(self.0, regs_di as u64)
    }

    #[inline(always)]
    pub fn second(&self) -> u64 {
        load!(self.0, regs_si as u64)
    }

    #[inline(always)]
    pub fn third(&self) -> u64 {
        load!(self.0, regs_dx as u64)
    }

    #[inline(always)]
    pub fn fifth(&self) -> u64 {
        load!(self.0, regs_r8 as u64)
    }
}
