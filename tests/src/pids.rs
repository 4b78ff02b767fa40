//! Process ids that are used again, at once and for certain: clone3(2) takes the one that is asked for.

use std::ffi::CString;
use std::io;
use std::ptr;

use anyhow::{Context, Result, ensure};

/// `struct clone_args` of include/uapi/linux/sched.h, up to `set_tid_size`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// A child whose process id was chosen. It does not outlive its owner.
#[derive(Debug)]
pub struct Reborn {
    pid: libc::pid_t,
}

impl Reborn {
    /// Runs a program, by its path, as the process `pid`, which must have ended and been waited for.
    ///
    /// # Errors
    /// When the kernel does not give that id.
    pub fn run(pid: u32, program: &str, arguments: &[&str]) -> Result<Self> {
        let words = [&[program], arguments].concat();
        let words = words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(ptr::null());
        let wanted = pid.cast_signed();
        let arguments = CloneArgs {
            exit_signal: u64::try_from(libc::SIGCHLD)?,
            set_tid: (&raw const wanted) as u64,
            set_tid_size: 1,
            ..CloneArgs::default()
        };
        // SAFETY: as with fork(2), the child has this thread alone and memory of its own; until execv(2) it makes
        // nothing but system calls. The arguments outlive the call.
        let pid = unsafe {
            let pid = libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>());
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::execv(pointers[0], pointers.as_ptr());
                libc::_exit(127);
            }
            pid
        };
        ensure!(pid > 0, "the process id {wanted}: {}", io::Error::last_os_error());
        let pid = i32::try_from(pid).context("a process id")?;
        ensure!(pid == wanted, "{pid} in place of {wanted}");
        Ok(Self { pid })
    }

    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }
}

impl Drop for Reborn {
    fn drop(&mut self) {
        // SAFETY: neither call keeps a pointer; the child is not waited for before, so the id is its.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, ptr::null_mut(), 0);
        }
    }
}
