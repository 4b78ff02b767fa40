//! From a file descriptor of `current` to its socket.
//!
//! The way leads through an array of pointers, behind which the verifier knows no types any more: what is found are
//! addresses, read with `bpf_probe_read_kernel`, and no helper takes them for a socket.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracer_ebpf::config::MISSING;

use crate::globals::offset;
use crate::kread::TaskRef;

/// `S_IFMT` and `S_IFSOCK` of include/uapi/linux/stat.h.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// A socket that `current` has open.
#[derive(Clone, Copy)]
pub struct OpenSocket {
    /// Address of its `struct sock`.
    pub skaddr: u64,
    /// Inode number of its file: tells it from the next socket at the same address.
    pub ino: u64,
    file: u64,
}

/// Reads the member of the kernel object at an address.
macro_rules! probe {
    ($address:expr, $member:ident as $type:ty) => {
        probe::<$type>($address, offset!($member))
    };
}

#[inline(always)]
fn probe<T>(address: u64, at: usize) -> Option<T> {
    // SAFETY: the helper reads any address, and fails for one that is not the kernel's.
    unsafe { bpf_probe_read_kernel((address as *const u8).wrapping_add(at).cast::<T>()) }.ok()
}

impl OpenSocket {
    /// None for what is no socket.
    #[inline(always)]
    pub fn of_current(fd: u64) -> Option<Self> {
        let (files, max_fds) = TaskRef::current().open_files()?;
        let fd = fd & 0xffff_ffff;
        if fd >= u64::from(max_fds) {
            return None;
        }
        let file = probe::<u64>(files, (fd as usize) * 8)?;
        if file == 0 {
            return None;
        }
        let inode = probe!(file, file_inode as u64)?;
        if probe!(inode, inode_mode as u16)? & S_IFMT != S_IFSOCK {
            return None;
        }
        let ino = probe!(inode, inode_ino as u64)?;
        let socket = probe!(file, file_private_data as u64)?;
        let skaddr = probe!(socket, socket_sk as u64)?;
        if skaddr == 0 { None } else { Some(Self { skaddr, ino, file }) }
    }

    /// `AF_*`, `SOCK_*` and `IPPROTO_*`.
    #[inline(always)]
    pub fn kind(&self) -> Option<(u16, u16, u16)> {
        Some((
            probe!(self.skaddr, skc_family as u16)?,
            probe!(self.skaddr, sk_type as u16)?,
            probe!(self.skaddr, sk_protocol as u16)?,
        ))
    }

    /// Address of the socket at the other end of a Unix socket, 0 if there is none.
    #[inline(always)]
    pub fn unix_peer(&self) -> u64 {
        probe!(self.skaddr, unix_peer as u64).unwrap_or(0)
    }

    /// Nobody else has it open, so closing it ends it. (The reference counter became another type in Linux 6.13,
    /// and counts from 0 since.)
    #[inline(always)]
    pub fn is_last(&self) -> bool {
        if offset!(file_ref) != MISSING as usize {
            return probe!(self.file, file_ref as u64) == Some(0);
        }
        if offset!(file_count) != MISSING as usize {
            return probe!(self.file, file_count as u64) == Some(1);
        }
        true
    }
}
