//! What the agent itself costs, from /proc.

use std::fs;

/// Memory, time and files of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnUse {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_fds: u64,
    /// Unix time.
    pub start_time_seconds: f64,
}

/// Reads it; None where /proc is not to be had.
#[must_use]
pub fn read() -> Option<OwnUse> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command may hold spaces and brackets; what follows its last bracket has fixed places (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<f64>().ok());
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as u64;
    Some(OwnUse {
        resident_bytes: fields.get(24 - 3)?.parse::<u64>().ok()? * page,
        cpu_seconds: (field(14)? + field(15)?) / ticks,
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        start_time_seconds: boot_time()? + field(22)? / ticks,
    })
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_something() {
        let used = super::read().expect("/proc");
        assert!(used.resident_bytes > 100_000 && used.open_fds > 0 && used.start_time_seconds > 1e9);
    }
}
