//! How a process that served came to its end, and on whose word.

use super::{Cause, Culprit};
use crate::event::{Exit, Process};
use crate::table::{Processes, Signalled};

/// Signals by which a service is told to stop or to reload: HUP, INT, QUIT, USR2, TERM.
const STOPS: [u32; 5] = [1, 2, 3, 12, 15];
/// From the word to the end of the last worker: services give their requests a minute or two to end.
const GRACE_NS: u64 = 120 * 1_000_000_000;

/// Why `process` ended, with who ended it. `serves` says of its parent whether it holds what the process served.
pub fn of(
    processes: &Processes,
    process: Process,
    exit: Exit,
    serves: impl Fn(&Process) -> bool,
) -> (Cause, Culprit) {
    let signals = processes.signals_to(&process);
    // A handler may raise the signal again, once it has cleaned up: what counts is who sent it first.
    let fatal = exit.signal.and_then(|number| last_from_others(signals, &process, &[u32::from(number)]));
    let killed_by = fatal.and_then(|signal| signal.sender.clone());
    let cause = match (exit, &killed_by) {
        (Exit { oom: true, .. }, _) => Cause::OomKilled,
        (Exit { signal: None, .. }, _) => match last_from_others(signals, &process, &STOPS) {
            Some(_) => Cause::ServiceStopped,
            None => Cause::ProcessExited,
        },
        (_, None) => Cause::ProcessCrashed,
        (_, Some(parent)) if parent.tgid == process.parent_tgid && serves(parent) => {
            let at = fatal.map_or(0, |signal| signal.ktime_ns);
            let told = last_from_others(processes.signals_to(parent), parent, &STOPS);
            let stopped = told.is_some_and(|told| told.ktime_ns <= at && at - told.ktime_ns <= GRACE_NS);
            if stopped { Cause::ServiceStopped } else { Cause::WorkerTimeout }
        }
        (Exit { signal: Some(number), .. }, _) if STOPS.contains(&u32::from(number)) => Cause::ServiceStopped,
        _ => Cause::ProcessKilled,
    };
    let killed_by = killed_by.filter(|_| !exit.oom);
    (cause, Culprit { process, exit: Some(exit), killed_by })
}

/// The last of these signals that another process sent.
fn last_from_others<'a>(
    signals: &'a [Signalled],
    victim: &Process,
    numbers: &[u32],
) -> Option<&'a Signalled> {
    let other = |signal: &&Signalled| {
        !signal.by_kernel && signal.sender.as_ref().is_some_and(|sender| !sender.is(victim))
    };
    signals.iter().rev().filter(other).find(|signal| numbers.contains(&signal.signal))
}
