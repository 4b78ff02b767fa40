//! The only writer of the ring buffer. What finds no room, or would take that of others, is counted by kind.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tracer_ebpf::wire::{Header, VERSION, tally};

use crate::maps::{EVENTS, count};
use crate::shares::{self, Origin};

/// Queues a record of `kind` that belongs to no upstream; see [`queue_of`].
#[inline(always)]
pub fn queue<T: Default + 'static>(
    kind: u16,
    set_header: impl FnOnce(&mut T) -> &mut Header,
    fill: impl FnOnce(&mut T),
) -> bool {
    queue_of(Origin::kind(kind), kind, set_header, fill)
}

/// Queues a record of `kind` that `fill` completes; `set_header` says where its header is. False if the ring is full,
/// or so full that `origin` has had its share.
#[inline(always)]
pub fn queue_of<T: Default + 'static>(
    origin: Origin,
    kind: u16,
    set_header: impl FnOnce(&mut T) -> &mut Header,
    fill: impl FnOnce(&mut T),
) -> bool {
    let header = header::<T>(kind);
    let entry = if shares::admits(origin, header.ktime_ns) { EVENTS.reserve::<T>(0) } else { None };
    let Some(mut entry) = entry else {
        count(tally::LOST + u32::from(kind));
        return false;
    };
    let record = entry.write(T::default());
    *set_header(record) = header;
    fill(record);
    entry.submit(0);
    count(tally::QUEUED + u32::from(kind));
    true
}

/// The header of a record of `kind` that is made now.
#[inline(always)]
pub fn header<T>(kind: u16) -> Header {
    // SAFETY: the helper only reads the clock.
    let ktime_ns = unsafe { bpf_ktime_get_ns() };
    Header { version: VERSION, kind, size: size_of::<T>() as u32, ktime_ns }
}
