//! `latency`: from the kernel's event to the line on a watcher, `rstrace watch --json` of a running agent.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::daemon::Daemon;
use super::faults::{Breaker, Fault};
use super::stats::quantile;
use super::{Cell, Options, Table};
use crate::agent::binary;
use crate::netns::{Family, Link, Net};
use crate::process::{Guarded, poll};

const DAY_NS: u64 = 86_400 * 1_000_000_000;
/// After the last abort: the settle window, and what the reader may be behind.
const TAIL: Duration = Duration::from_secs(5);

/// Measures each fault at each rate.
///
/// # Errors
/// When the agent, the watcher or the stage cannot be set up.
pub fn measure(options: &Options) -> Result<Vec<Table>> {
    let mut table = Table::new(
        "Latency: from the kernel's event to the line on a watcher",
        &["fault", "a second, wanted", "a second, made", "lines", "p50, ms", "p99, ms", "goal, ms"],
    );
    for fault in [Fault::Refused, Fault::Linger] {
        for (rate, goal) in [(10, ""), (1_000, "≤ 300"), (50_000, "")] {
            let (made, mut latencies) = watched(fault, rate, options.duration)?;
            latencies.sort_by(f64::total_cmp);
            table.row([
                fault.name().into(),
                Cell::number(f64::from(rate), 0),
                Cell::number(made / options.duration.as_secs_f64(), 0),
                Cell::number(latencies.len() as f64, 0),
                Cell::number(quantile(&latencies, 0.5), 1),
                Cell::number(quantile(&latencies, 0.99), 1),
                goal.into(),
            ]);
        }
    }
    table.note(format!(
        "{} s each. A refused connect is told at once; a reset waits 200 ms for the other end's story. One thread \
         makes them, over loopback. Lines that are missing were left out for a reader that was too slow, which \
         the stream says.",
        options.duration.as_secs()
    ));
    Ok(vec![table])
}

/// How many were made, and the milliseconds that the line of each took.
fn watched(fault: Fault, rate: u32, duration: Duration) -> Result<(f64, Vec<f64>)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    net.gateway().enter(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 9999"))??;
    let daemon = Daemon::start()?;
    let upstream = net.free_upstream();
    let mut command = Command::new(binary()?);
    command.args(["watch", "--json", "--upstream", &upstream.to_string(), "--socket"]);
    command.arg(daemon.socket()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut watcher = Guarded::spawn(&mut command)?;
    let lines = Arrivals::of(watcher.child().stdout.take().context("the watcher's stdout is piped")?);
    poll("the watcher to be ready", Duration::from_secs(10), || (lines.count() > 0).then_some(()))?;
    let made = net.gateway().enter(|| Breaker::new(fault, upstream)?.pace(rate, duration))??;
    let wanted = usize::try_from(made)? + 1;
    // Those that were left out never come.
    let _ = poll("the last line", TAIL, || (lines.count() >= wanted).then_some(()));
    let latencies = lines.latencies();
    ensure!(!latencies.is_empty(), "no line of {made} aborts has come");
    Ok((made as f64, latencies))
}

/// The lines of a watcher, each timed as it comes.
struct Arrivals {
    seen: Arc<AtomicUsize>,
    latencies: Arc<Mutex<Vec<f64>>>,
}

impl Arrivals {
    fn of(pipe: ChildStdout) -> Self {
        let arrivals = Self { seen: Arc::default(), latencies: Arc::default() };
        let (seen, latencies) = (Arc::clone(&arrivals.seen), Arc::clone(&arrivals.latencies));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                if line.contains("\"kind\":\"verdict\"")
                    && let Some(at) = time_of_day(&line)
                {
                    let now = now.as_nanos() as u64 % DAY_NS;
                    let took = (now + DAY_NS - at) % DAY_NS;
                    latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took as f64 / 1e6);
                }
                seen.fetch_add(1, Ordering::Release);
            }
        });
        arrivals
    }

    fn count(&self) -> usize {
        self.seen.load(Ordering::Acquire)
    }

    fn latencies(&self) -> Vec<f64> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Nanoseconds since midnight of a line's `time`. Reading all of its JSON would take longer than what is measured.
fn time_of_day(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("\"time\":\"")?;
    let time = rest.split_once('"')?.0.split_once('T')?.1.strip_suffix('Z')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::time_of_day;

    #[test]
    fn the_time_of_a_line_is_read_to_the_nanosecond() {
        let line = "{\"schema\":1,\"kind\":\"verdict\",\"time\":\"2026-11-21T01:02:03.5Z\",\"host\":\"h\"}";
        assert_eq!(time_of_day(line), Some(3_723_500_000_000));
        assert_eq!(time_of_day("{\"time\":\"2026-11-21T00:00:01Z\"}"), Some(1_000_000_000));
        assert_eq!(time_of_day("{\"count\":3}"), None);
    }
}
