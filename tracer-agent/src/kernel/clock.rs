//! The host's clocks: what the programs' times mean.

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// `CLOCK_MONOTONIC` now, nanoseconds: the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// How long the host has slept since it was booted, nanoseconds: `CLOCK_BOOTTIME`, in which the start of a process is
/// told, minus the monotonic clock.
#[must_use]
pub fn suspended_ns() -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    let boot_ns =
        u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0);
    boot_ns.saturating_sub(monotonic_ns())
}

/// Wall clock minus monotonic clock, nanoseconds. Moves when the wall clock is stepped.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    let wall = clock_gettime(ClockId::Realtime);
    let wall_ns = wall.tv_sec.saturating_mul(1_000_000_000).saturating_add(wall.tv_nsec);
    wall_ns.saturating_sub(i64::try_from(monotonic_ns()).unwrap_or(0))
}

/// CONFIG_HZ: the coarse clocks advance once a tick, and their resolution says so.
#[must_use]
pub fn jiffies_per_second() -> u32 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    match u32::try_from(tick.tv_nsec) {
        Ok(ns) if ns > 0 => (1_000_000_000 + ns / 2) / ns,
        _ => 250,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hz_is_one_that_kernels_are_built_with() {
        assert!([100, 250, 300, 1000].contains(&jiffies_per_second()), "{}", jiffies_per_second());
    }
}
