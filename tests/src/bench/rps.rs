//! RPS on the loopback device: segments are handed from core to core and softirqs interrupt whatever runs there, as
//! they do on a host with a real card.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::ptr;

use anyhow::{Context, Result};

use crate::netns::Namespace;

const ROOT: &CStr = c"/";
const SYS: &CStr = c"/sys";
const SYSFS: &CStr = c"sysfs";

/// Spreads what the namespace's loopback device receives over all cores.
///
/// # Errors
/// When the kernel has no RPS, or /sys cannot be mounted.
pub fn switch_on(namespace: &Namespace) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get().min(32);
    let mask = format!("{:x}", (1_u64 << cores) - 1);
    namespace.enter(|| {
        see_own_sysfs().context("mount the namespace's sysfs")?;
        fs::write("/sys/class/net/lo/queues/rx-0/rps_cpus", mask).context("this kernel has no RPS")
    })?
}

/// sysfs shows the devices of the namespace in which it was mounted. Only the calling thread sees this mount, and it
/// goes away with the thread.
fn see_own_sysfs() -> io::Result<()> {
    // SAFETY: the strings are constants with a NUL at their end, the data pointers may be null (mount(2)), and
    // CLONE_NEWNS takes this thread's view of the file system apart from that of the others.
    unsafe {
        done(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        done(libc::mount(ptr::null(), ROOT.as_ptr(), ptr::null(), private, ptr::null()))?;
        done(libc::mount(SYSFS.as_ptr(), SYS.as_ptr(), SYSFS.as_ptr(), 0, ptr::null()))
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
