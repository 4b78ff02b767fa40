//! What is learned of each upstream from times: how long its slowest answer took, whether its connections are used
//! again, and after what idle time it closes them. The agent reads them with the counters, and each record of an end
//! carries them.
//!
//! Nothing here is exact under a race of two CPUs, and nothing has to be: a figure that is overwritten comes again.

use aya_ebpf::helpers::bpf_jiffies64;
use tracer_ebpf::errno::ECONNRESET;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{IDLE_AGES, SocketEnd, UpstreamAges, flag, phase};

use crate::kread::{Sk, Tcp};
use crate::marks::Memory;
use crate::{globals, upstreams};

/// An answer counts as slow from 50 ms on: this many to a second.
const SLOW_PER_SECOND: u64 = 20;
/// A connection counts as kept after 200 ms without data: this many to a second.
const KEPT_PER_SECOND: u64 = 5;
/// For this long, and up to twice as long, a slow answer is remembered: what took its time before a change of
/// settings says nothing for ever.
const WINDOW_SECONDS: u32 = 1800;

/// A read that follows a write: an answer. One that came fast costs a comparison.
#[inline(always)]
pub fn answered(sk: &Sk, tcp: &Tcp, memory: &Memory) {
    // Of the answer's last segment so far; negative if that came before the request was sent (a goodbye, a ticket).
    let age = tcp.lrcvtime().wrapping_sub(tcp.lsndtime());
    if lasts(age, SLOW_PER_SECOND)
        && let Some(ages) = upstreams::ages(sk, memory)
    {
        note_slow(ages, age);
    }
    if memory.exchanges == 2
        && let Some(ages) = upstreams::ages(sk, memory)
        && ages.reused == 0
    {
        ages.reused = 1;
    }
}

/// ESTABLISHED was left. If the upstream closed a connection that it had served and kept, its age is noted: the time
/// since the last data. An idle close that crossed a request on the way is one as well; then the request itself is
/// the last data sent, and only what came back is old.
#[inline(always)]
pub fn closed(sk: &Sk, tcp: &Tcp, memory: &Memory, new_state: u8) {
    let fin = new_state == s::CLOSE_WAIT;
    let reset = new_state == s::CLOSE && sk.err() == ECONNRESET;
    let unread = tcp.rcv_nxt().wrapping_sub(tcp.copied_seq()).wrapping_sub(u32::from(fin));
    if !(fin || reset) || memory.exchanges == 0 || unread != 0 {
        return;
    }
    let now = jiffies();
    let (sent, received) = (now.wrapping_sub(tcp.lsndtime()), now.wrapping_sub(tcp.lrcvtime()));
    let crossed = fin
        && memory.phase == phase::PENDING as u32
        && tcp.snd_una() == memory.read_mark
        && tcp.total_retrans() == memory.retrans_mark;
    let age = match memory.phase as usize {
        phase::ANSWERED => received.min(sent),
        _ if crossed => received,
        _ => return,
    };
    if lasts(age, KEPT_PER_SECOND)
        && let Some(ages) = upstreams::ages(sk, memory)
    {
        ages.idle[ages.next_idle as usize & (IDLE_AGES - 1)] = age;
        ages.next_idle = ages.next_idle.wrapping_add(1);
    }
}

/// Fills in what is known of the upstream of a socket that connected.
#[inline(always)]
pub fn fill(record: &mut SocketEnd, sk: &Sk, memory: &Memory) {
    let Some(ages) = upstreams::ages(sk, memory) else { return };
    record.slowest_answer = slowest(ages);
    record.idle_ages = ages.idle;
    if ages.reused != 0 {
        record.flags |= flag::UPSTREAM_REUSED;
    }
}

#[inline(always)]
fn note_slow(ages: &mut UpstreamAges, age: u32) {
    let now = jiffies();
    let began = now.wrapping_sub(ages.window_began);
    if began > window() {
        ages.slowest_before = if began > 2 * window() { 0 } else { ages.slowest };
        ages.slowest = 0;
        ages.window_began = now;
    }
    if age > ages.slowest {
        ages.slowest = age;
    }
}

#[inline(always)]
fn slowest(ages: &UpstreamAges) -> u32 {
    let began = jiffies().wrapping_sub(ages.window_began);
    if began <= window() {
        ages.slowest.max(ages.slowest_before)
    } else if began <= 2 * window() {
        ages.slowest
    } else {
        0
    }
}

/// Whether `age` is no less than a second divided by `parts`.
#[inline(always)]
fn lasts(age: u32, parts: u64) -> bool {
    age as i32 > 0 && u64::from(age) * parts >= u64::from(globals::hz())
}

#[inline(always)]
fn window() -> u32 {
    globals::hz() * WINDOW_SECONDS
}

#[inline(always)]
fn jiffies() -> u32 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_jiffies64() as u32 }
}

const _: () = assert!(IDLE_AGES.is_power_of_two());
