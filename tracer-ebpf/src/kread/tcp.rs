//! `struct tcp_sock`.

use core::ptr;

use super::{Raw, Sk, load};
use crate::globals::offset;

/// `struct tcp_sock`, the same object as its `struct sock` with its type known.
#[derive(Clone, Copy)]
pub struct Tcp(pub(super) Raw);

impl Tcp {
    /// Its `struct sock`, by a pointer that the verifier does not trust. Each pointer that is read through a trusted
    /// one makes it look for a name in all of the kernel's BTF (`btf_nested_type_is_trusted`, kernel/bpf/btf.c).
    #[inline(always)]
    pub fn sk(&self) -> Sk {
        Sk(self.0)
    }
    /// Stays when the port has been given back, unlike `skc_num`.
    #[inline(always)]
    pub fn local_port(&self) -> u16 {
        u16::from_be(load!(self.0, inet_sport as u16))
    }
    #[inline(always)]
    pub fn write_seq(&self) -> u32 {
        load!(self.0, write_seq as u32)
    }
    /// Lags behind `write_seq` by what could not be sent yet.
    #[inline(always)]
    pub fn snd_nxt(&self) -> u32 {
        load!(self.0, snd_nxt as u32)
    }
    #[inline(always)]
    pub fn snd_una(&self) -> u32 {
        load!(self.0, snd_una as u32)
    }
    #[inline(always)]
    pub fn rcv_nxt(&self) -> u32 {
        load!(self.0, rcv_nxt as u32)
    }
    #[inline(always)]
    pub fn copied_seq(&self) -> u32 {
        load!(self.0, copied_seq as u32)
    }
    #[inline(always)]
    pub fn bytes_received(&self) -> u64 {
        load!(self.0, bytes_received as u64)
    }
    #[inline(always)]
    pub fn bytes_acked(&self) -> u64 {
        load!(self.0, bytes_acked as u64)
    }
    /// Jiffies (low 32 bits) at the last segment with data sent.
    #[inline(always)]
    pub fn lsndtime(&self) -> u32 {
        load!(self.0, lsndtime as u32)
    }
    /// Jiffies (low 32 bits) at the last acknowledgement received.
    #[inline(always)]
    pub fn rcv_tstamp(&self) -> u32 {
        load!(self.0, rcv_tstamp as u32)
    }
    /// Jiffies (low 32 bits) at the last segment with data received.
    #[inline(always)]
    pub fn lrcvtime(&self) -> u32 {
        load!(self.0, lrcvtime as u32)
    }
    #[inline(always)]
    pub fn srtt_us(&self) -> u32 {
        // The kernel keeps it shifted left by 3.
        load!(self.0, srtt_us as u32) >> 3
    }
    /// Retransmission timeouts since something was last acknowledged.
    #[inline(always)]
    pub fn timeouts(&self) -> u8 {
        load!(self.0, icsk_retransmits as u8)
    }
    #[inline(always)]
    pub fn total_retrans(&self) -> u32 {
        load!(self.0, total_retrans as u32)
    }
}
