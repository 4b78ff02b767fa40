//! The words for what was told from repetition: timeouts, idle limits, connections that ended together.

use super::{after_request, owner, seconds, to_a_timer};
use crate::event::TcpState;
use crate::table::{Repetition, Wait, as_configured};
use crate::verdict::finding::Finding;
use crate::verdict::rules::learned::{self, NoTimeout};
use crate::verdict::{Cause, Story};

/// The nginx setting that an operator will look for first, and HAProxy's.
fn setting(wait: Wait) -> &'static str {
    match wait {
        Wait::Upstream | Wait::GatewayReading => "proxy_read_timeout (HAProxy: timeout server)",
        Wait::GatewaySending => "proxy_send_timeout (HAProxy: timeout server)",
        Wait::GatewayConnecting => "proxy_connect_timeout (HAProxy: timeout connect)",
    }
}

/// `4.00 s`, `350 ms`: as exactly as a setting can be told from an age.
fn about(ms: f64) -> String {
    let ms = to_a_timer(ms);
    if ms >= 1000.0 { format!("{:.2} s", ms / 1000.0) } else { format!("{ms:.0} ms") }
}

/// `14 of the last 15`, `all of the last 3`.
fn share(repetition: &Repetition) -> String {
    let Repetition { alike, of, .. } = repetition;
    if alike == of { format!("all of the last {of}") } else { format!("{alike} of the last {of}") }
}

/// What is known of answers, as a bound from above.
fn answers(story: &Story<'_>) -> String {
    let slowest = story.slowest_answer_ms();
    if slowest >= 1000.0 {
        format!("answers came within {:.1} s", (slowest / 100.0).ceil() / 10.0)
    } else if slowest > 0.0 {
        format!("answers came within {slowest:.0} ms")
    } else {
        "no answer took as long as 50 ms".into()
    }
}

pub fn upstream_timeout(story: &Story<'_>) -> String {
    let repeated = story.repetition.as_ref().map_or_else(String::new, |r| {
        format!(" {} after the request, as {} were ({})", seconds(r.age_ms), share(r), about(r.middle_ms))
    });
    format!(
        "{} without an answer{repeated}, while {}: a timeout there",
        if story.rst_received() { "reset" } else { "closed" },
        answers(story)
    )
}

/// The gateway's own timeout; None while it is not known to be one.
pub fn gateway_timeout(story: &Story<'_>) -> Option<String> {
    let repetition = learned::gateway_repeats(story)?;
    // A timer fires late and never early. But the kernel goes on sending what is in its buffer, so that the last
    // data is younger than the last write.
    let sending = repetition.wait == Wait::GatewaySending;
    let age = to_a_timer(if sending { repetition.oldest_ms } else { repetition.youngest_ms });
    let age = if age >= 1000.0 { format!("{:.1} s", age / 1000.0) } else { format!("{age:.0} ms") };
    let doing = match repetition.wait {
        Wait::GatewayConnecting => "connected to",
        Wait::GatewaySending => "sent to",
        Wait::GatewayReading | Wait::Upstream => "waited for",
    };
    Some(format!(
        "your gateway gives up after {age}: {}; {} {doing} {}, and gave up at this age {} times",
        setting(repetition.wait),
        owner(story),
        story.end.tuple.peer,
        share(repetition)
    ))
}

/// What follows "closed with a request pending, so and so old".
pub fn gateway_closed(story: &Story<'_>) -> String {
    match learned::no_timeout(story) {
        Some(NoTimeout::Scattered) => {
            ", at an age that does not repeat: cancelled by its client, or a limit of its own".into()
        }
        Some(NoTimeout::WaitedLonger) => format!(
            ", though it has waited {} for an answer: cancelled by its client, or a limit of its own",
            about(story.slowest_answer_ms())
        ),
        None => String::new(),
    }
}

pub fn keepalive_race(story: &Story<'_>) -> String {
    // Of a FIN that came earlier, and was not noticed, the age is not known.
    let own = (story.end.old_state == TcpState::Established).then(|| story.ms(story.end.lrcv_age));
    let idle = own.map_or_else(String::new, |ms| format!(" {}", seconds(ms)));
    let keep = match story.idle_limit_ms() {
        Some(limit) => keep_for_less(limit),
        None => own.map_or_else(|| "keep idle connections for less".into(), keep_for_less),
    };
    format!("idle{idle}, closed by the upstream while the request was on its way: {keep}")
}

fn keep_for_less(limit_ms: f64) -> String {
    let configured = as_configured(limit_ms);
    let whole = (configured / 1000.0).floor();
    let (limit, keep) = if whole >= 2.0 {
        let tenths = (configured / 100.0).floor();
        let limit =
            if tenths % 10.0 == 0.0 { format!("{whole:.0} s") } else { format!("{:.1} s", tenths / 10.0) };
        (limit, format!("{:.0}s", whole - 1.0))
    } else {
        let keep = (limit_ms * 0.8 / 50.0).floor() * 50.0;
        (format!("{:.0} ms", ((limit_ms + 5.0) / 10.0).floor() * 10.0), format!("{keep:.0}ms"))
    };
    format!("keep idle connections for less than {limit} (keepalive_timeout {keep})")
}

/// What follows "lost a request: " where the process there died unseen.
pub fn died_together(story: &Story<'_>, finding: &Finding) -> Option<String> {
    let burst = story.burst.filter(|_| ended_unseen(finding) && learned::died_together(story))?;
    Some(match (burst.connections, burst.refused) {
        (1, _) => format!(
            "the upstream ended the connection without an answer{}, and connects are refused since: the process \
             there died or was restarted",
            after_request(story)
        ),
        (n, true) => format!(
            "{n} connections ended within 50 ms, and connects are refused since: the process there died or was \
             restarted"
        ),
        (n, false) => format!(
            "{n} connections ended within 50 ms, their requests of different ages: the process there died or was \
             restarted"
        ),
    })
}

/// The figures, for the verdicts that stand on them.
pub fn evidence(story: &Story<'_>, finding: &Finding) -> Vec<String> {
    let mut facts = Vec::new();
    let repeated = match finding.cause {
        Cause::UpstreamTimeout => story.repetition.as_ref(),
        Cause::GatewayTimeout | Cause::GatewayConnectTimeout | Cause::ConnectTimeout => {
            learned::gateway_repeats(story)
        }
        _ => None,
    };
    if let Some(r) = repeated {
        let who = if r.wait == Wait::Upstream { "the upstream" } else { "the gateway" };
        facts.push(format!(
            "{} requests that {who} gave up here ended at about this age, the youngest {} old; {}",
            share(r),
            seconds(r.youngest_ms),
            answers(story)
        ));
    }
    let other = story.repetition.as_ref().filter(|_| finding.cause == Cause::GatewayClosed);
    facts.extend(learned::no_timeout(story).zip(other).map(|(why, r)| match why {
        NoTimeout::Scattered => {
            format!("the last {} ages at which the gateway gave up here all differ", r.of)
        }
        NoTimeout::WaitedLonger => format!("the gateway has waited here: {}", answers(story)),
    }));
    if finding.cause == Cause::KeepaliveRace {
        facts.push(idle_closes(story));
    }
    if let Some(burst) = story.burst.filter(|_| ended_unseen(finding) && story.other.is_none()) {
        let ages = burst.ages_ms.map_or_else(String::new, |(youngest, oldest)| {
            format!(", their requests {} to {} old", seconds(youngest), seconds(oldest))
        });
        let refused = if burst.refused { "; connects are refused since" } else { "" };
        if burst.connections > 1 || burst.refused {
            facts.push(format!("connections that ended together: {}{ages}{refused}", burst.connections));
        }
    }
    facts
}

fn ended_unseen(finding: &Finding) -> bool {
    matches!(finding.cause, Cause::ClosedWithoutResponse | Cause::ResetWithoutResponse)
}

fn idle_closes(story: &Story<'_>) -> String {
    let mut seen: Vec<u32> = story.end.idle_ages.into_iter().filter(|age| *age > 0).collect();
    seen.sort_unstable();
    let seen: Vec<String> = seen.into_iter().map(|age| seconds(story.ms(age))).collect();
    match (story.idle_limit_ms(), seen.is_empty()) {
        (_, true) => "no other idle close of this upstream is known".into(),
        (Some(limit), _) => {
            format!("it closes idle connections after {}; last: {}", seconds(limit), seen.join(", "))
        }
        (None, _) => format!("it has closed idle connections after {}", seen.join(", ")),
    }
}
