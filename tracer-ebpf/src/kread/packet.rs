//! `struct sk_buff`.

use core::ffi::c_void;
use core::ptr;

use super::{Raw, load, net_cookie, net_inum};
use crate::globals::offset;

/// `struct sk_buff`.
#[derive(Clone, Copy)]
pub struct Skb(Raw);

impl Skb {
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Option<Self> {
        if pointer.is_null() { None } else { Some(Self(pointer.cast())) }
    }

    #[inline(always)]
    pub fn network_header(&self) -> *const u8 {
        load!(self.0, skb_head as Raw).wrapping_add(usize::from(load!(self.0, skb_network_header as u16)))
    }

    #[inline(always)]
    pub fn netns(&self) -> u32 {
        net_inum(self.net())
    }

    #[inline(always)]
    pub fn netns_cookie(&self) -> u64 {
        net_cookie(self.net())
    }

    /// Of the device that it came in by or leaves by; of its socket where it has not got that far; else null.
    #[inline(always)]
    fn net(&self) -> Raw {
        let device = load!(self.0, skb_dev as Raw);
        if !device.is_null() {
            return load!(device, dev_net as Raw);
        }
        let sk = load!(self.0, skb_sk as Raw);
        if sk.is_null() { ptr::null() } else { load!(sk, skc_net as Raw) }
    }
}
