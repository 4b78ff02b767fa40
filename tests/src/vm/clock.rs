//! A clock that is stepped: the time of a verdict follows it, and how long something lasted does not.
//!
//! Only a machine of its own can be done that to.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::{Agent, binary};
use serde_json::Value;

use crate::fault::Fault;
use crate::gateway::Leg;
use crate::results::Results;
use crate::smoke::{VERDICT, is_about};
use crate::upstream::{PATIENCE, Upstream};

const HOUR: i64 = 3600;
/// How far the time of a verdict may be from the moment at which it is read, on a processor that is emulated.
const NEAR: f64 = 5.0;
/// Milliseconds for which the upstream holds the request, and with it the connection, and what that may become here.
const HELD: f64 = 1500.0;
const SLOW: f64 = 15_000.0;

/// Steps it forward, back beyond where it was, and to where it was.
pub fn run(results: &mut Results, mut address: impl FnMut() -> SocketAddr) {
    let mut agent = None;
    results.take("clock_watch_is_ready", || {
        agent = Some(Agent::watch_as(Command::new(binary()?), &[])?);
        Ok(())
    });
    let Some(mut agent) = agent else { return };
    for (name, step) in [("clock_forward", HOUR), ("clock_back", -2 * HOUR), ("clock_forward_again", HOUR)] {
        results.take(name, || stepped(&mut agent, step, &mut address));
    }
}

/// Steps the clock while a request waits.
fn stepped(agent: &mut Agent, seconds: i64, address: &mut impl FnMut() -> SocketAddr) -> Result<()> {
    let held = address();
    let upstream = Upstream::start(held, &[], None)?;
    let mut leg = Leg::connect(held)?;
    leg.request("/fin-after/1500")?;
    upstream.wait_for("/fin-after/1500")?;
    step(seconds)?;
    leg.drain()?;
    let line = agent.wait_for(&held.to_string(), VERDICT, |line| is_about(line, held))?.json;
    ensure!(line["cause"] == "closed_without_response", "{line}");
    for key in ["age_ms", "since_request_ms"] {
        let lasted = line["connection"][key].as_f64().with_context(|| format!("no {key}: {line}"))?;
        // Some ticks of the kernel's clock less: of an emulated machine's processors one may run while the one that counts
        // them does not.
        ensure!((HELD - 150.0..SLOW).contains(&lasted), "{key} is {lasted} after {HELD} ms: {line}");
    }
    // The agent looks at the clock once a second.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let refusing = address();
        Fault::NobodyListens.bring_about(refusing)?;
        let line = agent.wait_for(&refusing.to_string(), VERDICT, |line| is_about(line, refusing))?.json;
        let off = (told_at(&line)? - now()?).abs();
        if off < NEAR {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{off} s off: {line}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn step(seconds: i64) -> Result<()> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only use the timespec, which outlives them.
    let code = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time);
        time.tv_sec += seconds;
        libc::clock_settime(libc::CLOCK_REALTIME, &raw const time)
    };
    ensure!(code == 0, "step the clock: {}", io::Error::last_os_error());
    Ok(())
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// Seconds since 1970 of a line's `time`, which is like 2026-11-20T12:03:07.412345678Z.
fn told_at(line: &Value) -> Result<f64> {
    let time = line["time"].as_str().context("no time")?;
    let numbers = time.trim_end_matches('Z').split(['-', 'T', ':']).map(str::parse::<f64>);
    let numbers = numbers.collect::<Result<Vec<_>, _>>().with_context(|| time.to_owned())?;
    let [year, month, day, hours, minutes, seconds] = numbers[..] else { bail!("{time:?} is no time") };
    // Years begin in March, so that the odd day is the last of them (proleptic Gregorian calendar).
    let (year, month) = if month > 2.0 { (year, month - 3.0) } else { (year - 1.0, month + 9.0) };
    let leap_days = (year / 4.0).floor() - (year / 100.0).floor() + (year / 400.0).floor();
    let days = year * 365.0 + leap_days + ((153.0 * month + 2.0) / 5.0).floor() + day - 1.0 - 719_468.0;
    Ok(((days * 24.0 + hours) * 60.0 + minutes) * 60.0 + seconds)
}
