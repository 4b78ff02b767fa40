//! The words for a process that was told to go: by whom, with what, and what that one had been told.

use super::{named, seconds};
use crate::event::Process;
use crate::table::Signalled;
use crate::verdict::finding::Finding;
use crate::verdict::{Cause, Story, signal_name};

const RELOADS: [u32; 2] = [1, 12];

/// `SIGTERM of php-fpm8.2[41]`.
fn signal_of(signalled: &Signalled) -> String {
    let name = u8::try_from(signalled.signal).map_or_else(|_| "a signal".into(), signal_name);
    let sender: Option<&Process> = signalled.sender.as_ref();
    sender.map_or_else(|| name.clone(), |sender| format!("{name} of {}", named(sender)))
}

/// What was done to the culprit, to stand after its name.
pub fn told(story: &Story<'_>, finding: &Finding) -> String {
    let Some(ending) = story.ending() else { return "was stopped".into() };
    let blow = ending.blow.map_or_else(|| "a signal".into(), signal_of);
    if finding.cause == Cause::WorkerTimeout {
        return format!(
            "was ended by its parent, which goes on serving ({blow}): a limit of time or of memory there"
        );
    }
    match ending.order {
        Some(order) if ending.blow.is_none() => {
            format!("ended with its service ({} to its parent) before it had answered", signal_of(order))
        }
        Some(order) if RELOADS.contains(&order.signal) => {
            format!("was stopped ({blow}) for a reload ({}) before it had answered", signal_of(order))
        }
        Some(order) => {
            format!("was stopped ({blow}) with its service ({}) before it had answered", signal_of(order))
        }
        None => format!("was told to stop ({blow}) and had not answered"),
    }
}

/// The signals behind an end, with their times, and what came after it.
pub fn evidence(story: &Story<'_>, finding: &Finding) -> Vec<String> {
    let Some(fate) = story.fate.as_ref() else { return vec![] };
    let mut facts = Vec::new();
    let before =
        |signalled: &Signalled| seconds(story.end.ktime_ns.saturating_sub(signalled.ktime_ns) as f64 / 1e6);
    if let Some(ending) = fate.ending().filter(|ending| ending.cause == finding.cause) {
        facts.extend(ending.blow.map(|blow| {
            let parent = if blow.by_parent { ", its parent," } else { "" };
            format!("it had been sent {}{parent} {} before", signal_of(blow), before(blow))
        }));
        if finding.cause == Cause::WorkerTimeout {
            facts.push(
                "its parent listens at the address of this connection, lives, and had not been told to stop"
                    .into(),
            );
        }
        facts.extend(ending.order.map(|order| {
            let whom = if ending.blow.is_some() { "the sender had itself" } else { "its parent had" };
            format!("{whom} been sent {} {} before", signal_of(order), before(order))
        }));
    }
    facts.extend(fate.ended_later().map(|(_, ms)| format!("it ended {} after it had closed", seconds(ms))));
    facts
}
