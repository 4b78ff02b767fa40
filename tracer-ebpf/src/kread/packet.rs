//! `struct sk_buff`.

use core::ffi::c_void;
use core::ptr;

use super::{NetRef, Raw, load};
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

    /// That of the device that it came in by or leaves by; of its socket where it has not got that far.
    #[inline(always)]
    pub fn net(&self) -> NetRef {
        let device = load!(self.0, skb_dev as Raw);
        if !device.is_null() {
            return NetRef(load!(device, dev_net as Raw));
        }
        let sk = load!(self.0, skb_sk as Raw);
        NetRef(if sk.is_null() { ptr::null() } else { load!(sk, skc_net as Raw) })
    }
}
