//! Reading kernel objects: direct loads from pointers that the verifier knows, at offsets from BTF.
//!
//! Each type here wraps such a pointer. What lies past `struct sock` needs [`Tcp`], which only
//! `bpf_skc_to_tcp_sock` hands out.

mod packet;
mod task;
mod tcp;

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock};
use tracer_ebpf::config::MISSING;
use tracer_ebpf::wire::{Tuple, UpstreamKey};

pub use packet::Skb;
pub use task::{PF_EXITING, PF_KTHREAD, Regs, TaskRef};
pub use tcp::Tcp;

use crate::globals::{self, offset};

/// Address families of include/linux/socket.h.
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
/// include/linux/net.h.
pub const SOCK_STREAM: u16 = 1;
/// `SOCK_DONE` of `enum sock_flags`; 1 on every kernel since 2.6.
const SOCK_DONE: u32 = 1;
/// `SOCK_LINGER` of `enum sock_flags`; 4 on every kernel since 2.6.
const SOCK_LINGER: u32 = 4;
pub const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;

/// Loads a `T` at `offset` bytes past `base`.
macro_rules! load {
    ($base:expr, $member:ident as $type:ty) => {
        // SAFETY: `base` is a kernel pointer that the verifier has typed, the offset is that of a member of
        // its type, and the verifier refuses the program if either is not so.
        unsafe { ptr::read_volatile($base.add(offset!($member)).cast::<$type>()) }
    };
}
use load;

/// A pointer to a kernel object.
type Raw = *const u8;

/// `struct net`, or none.
#[derive(Clone, Copy)]
pub struct NetRef(Raw);

impl NetRef {
    /// Inode number; 0 for none.
    #[inline(always)]
    pub fn inum(&self) -> u32 {
        if self.0.is_null() { 0 } else { load!(self.0, net_inum as u32) }
    }

    /// What no other has until the next boot; 0 for none.
    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        if self.0.is_null() { 0 } else { load!(self.0, net_cookie as u64) }
    }
}

/// `struct sock`.
#[derive(Clone, Copy)]
pub struct Sk(Raw);

/// `struct unix_sock`, the same object with its type known.
#[derive(Clone, Copy)]
pub struct UnixSk(Raw);

impl Sk {
    /// None for a null pointer. The check has to stand before any member is read.
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Option<Self> {
        if pointer.is_null() { None } else { Some(Self(pointer.cast())) }
    }

    #[inline(always)]
    pub fn as_ptr(&self) -> *const c_void {
        self.0.cast()
    }

    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.0 as u64
    }

    /// SCTP, DCCP and MPTCP sockets pass the same tracepoint.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        load!(self.0, sk_protocol as u16) == IPPROTO_TCP
    }

    /// (Sockets of other families number their protocols otherwise.)
    #[inline(always)]
    pub fn is_udp(&self) -> bool {
        load!(self.0, sk_protocol as u16) == IPPROTO_UDP
            && matches!(load!(self.0, skc_family as u16), AF_INET | AF_INET6)
    }

    #[inline(always)]
    pub fn state(&self) -> u8 {
        load!(self.0, skc_state as u8)
    }

    #[inline(always)]
    pub fn family(&self) -> u16 {
        load!(self.0, skc_family as u16)
    }

    #[inline(always)]
    pub fn sk_type(&self) -> u16 {
        load!(self.0, sk_type as u16)
    }

    /// Inode number of its file; 0 for a socket that no process holds.
    #[inline(always)]
    pub fn ino(&self) -> u64 {
        let socket = load!(self.0, sk_socket as Raw);
        if socket.is_null() {
            return 0;
        }
        let file = load!(socket, socket_file as Raw);
        if file.is_null() {
            return 0;
        }
        let inode = load!(file, file_inode as Raw);
        if inode.is_null() {
            return 0;
        }
        load!(inode, inode_ino as u64)
    }

    /// The process at the other end, as SO_PEERCRED names it: for a socket that connected, who called listen(2).
    #[inline(always)]
    pub fn peer_tgid(&self) -> u32 {
        let pid = load!(self.0, sk_peer_pid as Raw);
        if pid.is_null() {
            return 0;
        }
        // The first of an array of unknown length, whose first member is the number in the first namespace.
        // SAFETY: the helper reads any address, and fails for one that is not the kernel's.
        unsafe { bpf_probe_read_kernel(pid.wrapping_add(offset!(pid_numbers)).cast::<u32>()) }.unwrap_or(0)
    }

    #[inline(always)]
    pub fn unix(&self) -> Option<UnixSk> {
        // SAFETY: the helper takes any socket and returns null for one that is no Unix socket.
        let unix = unsafe { bpf_skc_to_unix_sock(self.0.cast_mut().cast()) };
        if unix.is_null() { None } else { Some(UnixSk(unix.cast_const().cast())) }
    }

    #[inline(always)]
    pub fn net(&self) -> NetRef {
        NetRef(load!(self.0, skc_net as Raw))
    }

    /// What no other socket has until the next boot; 0 until somebody asks for it.
    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        load!(self.0, skc_cookie as u64)
    }

    /// Some BPF program has stored something with it.
    #[inline(always)]
    pub fn has_storage(&self) -> bool {
        load!(self.0, sk_bpf_storage as u64) != 0
    }

    #[inline(always)]
    pub fn err(&self) -> u32 {
        load!(self.0, sk_err as u32)
    }

    /// An error that may pass, as ICMP reports it while `current` holds the socket.
    #[inline(always)]
    pub fn soft_err(&self) -> u32 {
        load!(self.0, sk_err_soft as u32)
    }

    /// The error in the message that was queued last for its owner (`struct sock_exterr_skb`); 0 if there is none.
    #[inline(always)]
    pub fn queued_err(&self) -> u32 {
        if offset!(sk_error_queue_last) == MISSING as usize || offset!(exterr_errno) == MISSING as usize {
            return 0;
        }
        let last = load!(self.0, sk_error_queue_last as Raw);
        let errno = last.wrapping_add(offset!(skb_cb)).wrapping_add(offset!(exterr_errno));
        // SAFETY: the helper checks the address and fails for one that is not mapped.
        unsafe { bpf_probe_read_kernel(errno.cast::<u32>()) }.unwrap_or(0)
    }

    #[inline(always)]
    pub fn shutdown(&self) -> u8 {
        load!(self.0, sk_shutdown as u8)
    }

    /// `current` holds the socket's lock; otherwise `current` is a bystander.
    #[inline(always)]
    pub fn owned(&self) -> bool {
        load!(self.0, sk_lock_owned as u32) != 0
    }

    #[inline(always)]
    pub fn has_socket(&self) -> bool {
        load!(self.0, sk_socket as u64) != 0
    }

    #[inline(always)]
    pub fn lingers_zero(&self) -> bool {
        load!(self.0, skc_flags as u64) & (1 << SOCK_LINGER) != 0 && load!(self.0, sk_lingertime as u64) == 0
    }

    /// `tcp_fin` has run for it.
    #[inline(always)]
    pub fn has_received_fin(&self) -> bool {
        load!(self.0, skc_flags as u64) & (1 << SOCK_DONE) != 0
    }

    #[inline(always)]
    pub fn backlog(&self) -> u32 {
        load!(self.0, sk_ack_backlog as u32)
    }

    #[inline(always)]
    pub fn backlog_limit(&self) -> u32 {
        load!(self.0, sk_max_ack_backlog as u32)
    }

    #[inline(always)]
    pub fn peer_port(&self) -> u16 {
        u16::from_be(load!(self.0, skc_dport as u16))
    }

    /// 0 once the port has been given back; see [`Tcp::local_port`].
    #[inline(always)]
    pub fn local_port(&self) -> u16 {
        load!(self.0, skc_num as u16)
    }

    #[inline(always)]
    pub fn peer_address(&self, into: &mut [u8; 16]) {
        if load!(self.0, skc_family as u16) == AF_INET {
            write_mapped(into, load!(self.0, skc_daddr as u32));
        } else {
            write_words(into, load!(self.0, skc_v6_daddr as [u32; 4]));
        }
    }

    #[inline(always)]
    pub fn local_address(&self, into: &mut [u8; 16]) {
        if load!(self.0, skc_family as u16) == AF_INET {
            write_mapped(into, load!(self.0, skc_rcv_saddr as u32));
        } else {
            write_words(into, load!(self.0, skc_v6_rcv_saddr as [u32; 4]));
        }
    }

    #[inline(always)]
    pub fn upstream_key(&self, into: &mut UpstreamKey) {
        self.peer_address(&mut into.address);
        into.netns = self.net().inum();
        into.port = u32::from(self.peer_port());
    }

    /// Everything but the local port, which lies past `struct sock`.
    #[inline(always)]
    pub fn tuple(&self, local_port: u16, into: &mut Tuple) {
        self.local_address(&mut into.local);
        self.peer_address(&mut into.peer);
        into.local_port = local_port;
        into.peer_port = self.peer_port();
        into.netns = self.net().inum();
    }

    #[inline(always)]
    pub fn tcp(&self) -> Option<Tcp> {
        // SAFETY: the helper takes any socket and returns null for one that is not TCP.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        if tcp.is_null() { None } else { Some(Tcp(tcp.cast_const().cast())) }
    }
}

impl UnixSk {
    /// The socket at the other end.
    #[inline(always)]
    pub fn peer(&self) -> Option<Sk> {
        Sk::new(load!(self.0, unix_peer as *const c_void))
    }

    /// Bound to a name itself, or accepted from a listener that is.
    #[inline(always)]
    pub fn has_name(&self) -> bool {
        load!(self.0, unix_addr as u64) != 0
    }

    /// Address and length of the socket address that it is bound to.
    #[inline(always)]
    pub fn bound(&self) -> (u64, u64) {
        let address = load!(self.0, unix_addr as Raw);
        if address.is_null() {
            return (0, 0);
        }
        let length = load!(address, unix_address_len as u32);
        (address as u64 + offset!(unix_address_name) as u64, u64::from(length))
    }
}

#[inline(always)]
pub fn write_words(into: &mut [u8; 16], words: [u32; 4]) {
    // SAFETY: both are 16 bytes, and every wire struct keeps its addresses at a multiple of four.
    unsafe { ptr::write(into.as_mut_ptr().cast(), words) };
}

/// `::ffff:a.b.c.d` from an address in network order.
#[inline(always)]
pub fn write_mapped(into: &mut [u8; 16], address: u32) {
    let [first, second, third] = globals::mapped_prefix();
    write_words(into, [first, second, third, address]);
}

/// `socket->sk` of a `struct socket`.
#[inline(always)]
pub fn socket_sk(socket: *const c_void) -> Option<Sk> {
    Sk::new(load!(socket.cast::<u8>(), socket_sk as *const c_void))
}
