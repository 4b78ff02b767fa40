//! Processes and stale upstreams of a report, one line each.

use super::culprits::how_ended;
use super::phrases::{Clock, count};
use super::{Culprit, Instance, Stale};
use crate::output::text::printable;

/// What a line names of the processes of one culprit.
const PIDS: usize = 4;

/// `php-fpm[4242, 4243]: OOM-killed, 3 processes, the last started 12:03:59`.
pub fn culprit_line(culprit: &Culprit, clock: &Clock) -> String {
    let mut pids: Vec<_> = culprit.pids.iter().take(PIDS).map(u32::to_string).collect();
    if culprit.processes > pids.len() as u64 {
        pids.push("…".to_owned());
    }
    let mut told = format!("{}[{}]", culprit.comm, pids.join(", "));
    if let Some(ended) = &culprit.ended {
        told.push_str(&format!(" {ended}"));
        if culprit.processes > 1 {
            told.push_str(&format!(" {} times", culprit.processes));
        }
    }
    if let Some(started) = culprit.started {
        let which = if culprit.processes > 1 { ", the last" } else { "," };
        told.push_str(&format!("{which} started {}", clock.moment(started)));
    }
    told
}

/// `[4242] started 11:50:01 (13 min before), OOM-killed about 12:03:07`.
pub fn instance_line(instance: &Instance, clock: &Clock) -> String {
    let started = match instance.started {
        Some(started) => format!("started {} ({})", clock.moment(started), clock.ago(started)),
        None => "start not known".to_owned(),
    };
    let seen = clock.moment(instance.seen);
    match &instance.ended {
        Some(ended) => format!("[{}] {started}, {ended} about {seen}", instance.pid),
        None => format!("[{}] {started}", instance.pid),
    }
}

/// Since when nothing listens, who did, whether something does again, and where it is registered.
pub fn stale_line(stale: &Stale, clock: &Clock) -> String {
    let told = listener_line(stale, clock);
    match &stale.registration {
        Some(registration) => format!("{told}; stale registration: {}", registration.words(&stale.upstream)),
        None => told,
    }
}

fn listener_line(stale: &Stale, clock: &Clock) -> String {
    let begin =
        format!("{}{}: refused {}", stale.upstream, in_scope(&stale.scope), count(stale.losses, "time"));
    let (first, last) = (clock.moment(stale.first), clock.moment(stale.last));
    let begin =
        if first == last { format!("{begin} at {first}") } else { format!("{begin}, {first} to {last}") };
    let Some(listener) = &stale.listener else {
        if let Some(before) = &stale.before {
            return format!("{begin}; before: {}", culprit_line(before, clock));
        }
        return format!("{begin}; nothing of this host was ever seen to listen there");
    };
    let process = listener.process.as_ref().map(|process| {
        let mut who = format!("{}[{}]", process.comm, process.pid);
        if let Some(started) = process.started {
            who.push_str(&format!(", started {}", clock.moment(started)));
        }
        if let Some(exit) = &process.exit {
            who.push_str(&format!(", {}", how_ended(exit, None)));
        }
        who
    });
    match (listener.listening, listener.ceased, process) {
        (true, _, Some(who)) => format!("{begin}; now {who} listens there"),
        (true, _, None) => format!("{begin}; now something listens there"),
        (false, Some(ceased), Some(who)) => {
            format!("{begin}; nothing listens since {} (before: {who})", clock.moment(ceased))
        }
        (false, Some(ceased), None) => format!("{begin}; nothing listens since {}", clock.moment(ceased)),
        (false, None, _) => format!("{begin}; nothing listens there"),
    }
}

/// Which one it is, where it is not the host's own.
pub fn in_scope(scope: &str) -> String {
    if scope == "host" { String::new() } else { format!(" ({})", printable(scope)) }
}
