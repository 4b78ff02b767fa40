//! bpf(2), as little of it as the tests need.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd as _;
use std::str::FromStr;

/// A figure of a program or a map in the text of its /proc/PID/fdinfo/FD.
pub fn figure<T: FromStr>(fdinfo: &str, key: &str) -> Option<T> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok())
}

/// A command that gives a descriptor.
///
/// # Errors
/// When the kernel refuses.
pub fn new_fd<T>(command: libc::c_int, attributes: &mut T) -> io::Result<File> {
    let fd = call(command, attributes)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A command that gives no descriptor; what it tells, it writes into the attributes or where they point to.
///
/// # Errors
/// When the kernel refuses.
pub fn done<T>(command: libc::c_int, attributes: &mut T) -> io::Result<()> {
    call(command, attributes).map(drop)
}

fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads the attributes, of which it is told the size, and reads and writes what they point to, all
    // of which the callers keep alive and know to be as large as the kernel takes it to be.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    libc::c_int::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}
