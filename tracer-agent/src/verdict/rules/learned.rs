//! What is told from repetition: an age that comes again and again is a timeout.

use super::process::alive;
use crate::event::{LONGEST_GOODBYE, Role};
use crate::table::{Repetition, Wait, alike};
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Impact, Story};

/// Ticks of 10 ms, the coarsest, by which an age may miss the setting that made it.
const SETTING_MS: f64 = 20.0;

/// The upstream closes unanswered requests at an age that repeats, and answers none that late. With a death behind
/// it, it would be another rule's; what is not to be seen may be a supervisor's doing.
pub fn upstream_timeout(story: &Story<'_>) -> Option<Finding> {
    let repetition = story.repetition.as_ref().filter(|r| r.wait == Wait::Upstream && r.repeats())?;
    let lost = story.end.role == Role::Client && story.request_impact() == Impact::RequestLost;
    // After an answer, what is no longer than a goodbye is as likely one, and its age that of the idle close.
    let goodbye =
        story.end.exchanges > 0 && story.end.written_since_read.is_some_and(|b| b <= LONGEST_GOODBYE);
    if !lost || goodbye || story.slowest_answer_ms() >= repetition.youngest_ms {
        return None;
    }
    let finding = Finding::new(By::Upstream, Cause::UpstreamTimeout, Impact::RequestLost);
    Some(match story.other {
        Some(other) => {
            finding.inferred(&[Cause::ClosedWithoutResponse]).culprit(other.actor.clone().map(alive))
        }
        None => finding.inferred(&[Cause::WorkerTimeout, Cause::ClosedWithoutResponse]),
    })
}

/// Why an age at which the gateway closed is none of a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTimeout {
    /// It closes at ages that have nothing in common.
    Scattered,
    /// It has waited longer for answers that came.
    WaitedLonger,
}

/// Whether the gateway closed at an age that cannot be its timeout. A timeout may differ between routes to one
/// upstream, so a longer wait says nothing of an age that repeats, or that is a whole number of seconds.
pub fn no_timeout(story: &Story<'_>) -> Option<NoTimeout> {
    let repetition = story.repetition.as_ref().filter(|r| r.wait == Wait::GatewayReading)?;
    if repetition.repeats() {
        return None;
    }
    let age = repetition.age_ms;
    let waited = story.slowest_answer_ms();
    if waited > age && !alike(waited, age) && !is_whole(age) {
        Some(NoTimeout::WaitedLonger)
    } else if repetition.scattered {
        Some(NoTimeout::Scattered)
    } else {
        None
    }
}

fn is_whole(age_ms: f64) -> bool {
    let seconds = (age_ms / 1000.0).round();
    seconds > 0.0 && (age_ms - seconds * 1000.0).abs() <= SETTING_MS
}

/// The gateway's own timeout, if its age has come often enough to be known.
pub fn gateway_repeats<'a>(story: &'a Story<'_>) -> Option<&'a Repetition> {
    story.repetition.as_ref().filter(|r| r.wait != Wait::Upstream && r.repeats())
}

/// The upstream's process died, as far as that can be told without seeing it: connections ended together whose
/// requests were of different ages, after a time without failures; or connects are refused since.
pub fn died_together(story: &Story<'_>) -> bool {
    story.other.is_none()
        && story.burst.is_some_and(|burst| {
            let differ = burst.ages_ms.is_some_and(|(youngest, oldest)| !alike(youngest, oldest));
            // A RST may also come from what stands between, for many connections at once.
            let together = story.fin_received() && burst.connections > 1 && burst.after_quiet && differ;
            burst.refused || together
        })
}
