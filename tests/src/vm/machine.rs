//! The machine itself: file systems, loopback, power. It knows nothing of rstrace.

use std::ffi::CString;
use std::io;
use std::ptr;

use anyhow::{Context, Result, ensure};
use rstrace_tests::netns::loopback_up;

/// What rstrace and the tests look into, in the order in which the places come to exist.
const MOUNTS: [(&str, &str); 7] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("securityfs", "/sys/kernel/security"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/tmp"),
];

/// Makes the machine usable and says on the console which kernel it runs.
pub fn prepare() -> Result<()> {
    for (kind, at) in MOUNTS {
        mount(kind, at)?;
    }
    loopback_up()?;
    let version = std::fs::read_to_string("/proc/version").context("read /proc/version")?;
    println!("{}", version.trim());
    Ok(())
}

fn mount(kind: &str, at: &str) -> Result<()> {
    let (name, target) = (CString::new(kind)?, CString::new(at)?);
    // SAFETY: the strings are nul-terminated and outlive the call; these file systems take no data.
    let code = unsafe { libc::mount(name.as_ptr(), target.as_ptr(), name.as_ptr(), 0, ptr::null()) };
    let error = io::Error::last_os_error();
    // A kernel may have mounted /dev already.
    ensure!(code == 0 || error.raw_os_error() == Some(libc::EBUSY), "mount {kind} at {at}: {error}");
    Ok(())
}

/// Switches the machine off; returns only when the kernel refuses.
pub fn power_off() {
    // SAFETY: neither call takes a pointer. Nothing needs to be saved: every file system is in memory.
    unsafe {
        // The console's last line must be out before the power is.
        libc::tcdrain(libc::STDOUT_FILENO);
        libc::reboot(libc::RB_POWER_OFF);
    }
}
