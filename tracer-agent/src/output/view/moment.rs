//! Moments and lengths of time as the lines spell them.

use jiff::Timestamp;

use super::Origin;
use crate::event::Process;

/// What a start time is rounded to: the kernel gave it in clock ticks for long, and nobody needs more.
const HUNDREDTH_NS: i128 = 10_000_000;

impl Origin {
    /// At the beginning of a run; `suspended_ns` is how long the host has slept since it was booted.
    #[must_use]
    pub fn new(host: &str, clock_offset_ns: i64, suspended_ns: u64) -> Self {
        let boot_offset_ns = clock_offset_ns.saturating_sub_unsigned(suspended_ns);
        Self { host: host.to_owned(), clock_offset_ns, boot_offset_ns }
    }

    /// When a process was started, to 10 ms; None if it is not known.
    #[must_use]
    pub fn start_of(&self, process: &Process) -> Option<Timestamp> {
        if process.start_boottime == 0 {
            return None;
        }
        let wall_ns = i128::from(process.start_boottime) + i128::from(self.boot_offset_ns);
        let rounded = (wall_ns + HUNDREDTH_NS / 2).div_euclid(HUNDREDTH_NS) * HUNDREDTH_NS;
        Timestamp::from_nanosecond(rounded).ok()
    }
}

/// Wall time of a kernel event. Every sum of the two lies within what a timestamp can say.
#[must_use]
pub fn wall_time(ktime_ns: u64, clock_offset_ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ktime_ns) + i128::from(clock_offset_ns))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// So that 1204.1 does not become 1204.1000000000001.
pub(super) fn to_the_microsecond(milliseconds: f64) -> f64 {
    (milliseconds * 1000.0).round() / 1000.0
}

/// RFC 3339 in UTC with all nine digits, so that lines sort as text.
pub(crate) mod nanoseconds {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{time:.9}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The same with two digits, or null.
pub(crate) mod hundredths {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands on what the field is")]
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(&format_args!("{time:.2}")),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(deserializer)
    }
}
