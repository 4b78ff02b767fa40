//! The verdict on the whole, and what the losses have in common, in sentences.

use std::collections::{BTreeMap, HashMap};

use jiff::SignedDuration;

use super::phrases::{Clock, count, length, list, of_cause, of_group, share};
use super::{Group, Impacts, SpanView, Timeline, Totals};
use crate::verdict::{By, Cause};

/// What happened to one upstream is told in so many steps at most.
const STEPS: usize = 3;
/// Names in one list.
const NAMES: usize = 4;
/// Intervals of a timeline below which a part of it is no finding.
const INTERVALS: usize = 8;

/// What the sentences are made of.
pub struct Facts<'a> {
    pub clock: &'a Clock,
    pub span: &'a SpanView,
    /// Only some of the verdicts were asked for.
    pub filtered: bool,
    pub totals: &'a Totals,
    pub groups: &'a [Group],
    /// Losses by cause, the most first.
    pub causes: &'a [(Cause, u64)],
    pub timeline: &'a Timeline,
}

/// The verdict on the whole.
pub fn headline(facts: &Facts<'_>) -> String {
    let Facts { clock, totals, .. } = facts;
    let (Some(first), Some(last)) = (totals.first, totals.last) else { return nothing(facts) };
    let what = impacts(&totals.impacts);
    if totals.losses == 1 {
        return format!("{what} at {} ({}).", clock.moment(last), clock.ago(last));
    }
    let lasted = length(last.duration_since(first));
    let (first, last, ago) = (clock.moment(first), clock.moment(last), clock.ago(last));
    format!("{what} from {first} to {last} ({lasted}; the last {ago}).")
}

/// Nothing was lost: since when that is certain.
fn nothing(facts: &Facts<'_>) -> String {
    let Facts { clock, span, .. } = facts;
    let what = if facts.filtered { "Nothing of what was asked for was lost" } else { "Nothing was lost" };
    let until = span.until.filter(|until| *until < clock.now);
    match (span.covered_since.or(span.since), until) {
        (Some(since), Some(until)) if since >= until => {
            format!("Nothing is known of that time: the agent remembers since {}.", clock.moment(since))
        }
        (Some(since), Some(until)) => {
            format!("{what} between {} and {}.", clock.moment(since), clock.moment(until))
        }
        (Some(since), None) => {
            let ago = length(clock.now.duration_since(since));
            format!("{what} since {} ({ago}).", clock.moment(since))
        }
        (None, _) => format!("{what} in what was kept."),
    }
}

/// `47 requests lost, 3 connects failed`.
pub fn impacts(impacts: &Impacts) -> String {
    let Impacts { request_lost, connect_failed, response_truncated, unknown } = *impacts;
    let parts = [
        (request_lost, "request", "lost"),
        (connect_failed, "connect", "failed"),
        (response_truncated, "answer", "cut short"),
        (unknown, "request", "perhaps lost"),
    ];
    let parts = parts.into_iter().filter(|(number, ..)| *number > 0);
    parts
        .map(|(number, thing, what)| format!("{} {what}", count(number, thing)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The weightiest first.
pub fn findings(facts: &Facts<'_>) -> Vec<String> {
    if facts.totals.losses == 0 {
        return Vec::new();
    }
    let found =
        [by_upstream(facts), by_cause(facts), by_side(facts), killers(facts), in_time(facts), doubt(facts)];
    found.into_iter().flatten().collect()
}

/// `97 % of the losses are 10.0.3.7:9000: php-fpm OOM-killed 3 times, first at 12:03:07.`
fn by_upstream(facts: &Facts<'_>) -> Option<String> {
    let mut by_address = HashMap::<(&str, &str), (u64, Vec<&Group>)>::new();
    for group in facts.groups {
        let (losses, groups) = by_address.entry((group.address(), &group.scope)).or_default();
        *losses += group.losses;
        groups.push(group);
    }
    let heaviest = by_address.into_iter().max_by(|(a, (m, _)), (b, (n, _))| m.cmp(n).then_with(|| b.cmp(a)));
    let ((address, _), (losses, mut groups)) = heaviest?;
    let (all, upstreams) = (facts.totals.losses, facts.totals.upstreams);
    let begin = if losses == all && all == 1 {
        format!("The loss is {address}")
    } else if losses == all {
        format!("All losses are {address}")
    } else if losses * 2 >= all {
        format!("{} of the losses are {address}", share(losses, all))
    } else {
        let share = share(losses, all);
        return Some(format!(
            "No upstream stands out among {upstreams}: the heaviest, {address}, has {share}."
        ));
    };
    // The story in its order: the kill first, the refused connects after it.
    groups.truncate(STEPS);
    groups.sort_by_key(|group| group.first);
    let step = |(at, group): (usize, &&Group)| match group.cause {
        // Who listened there has been named by then.
        Cause::NoListener if at > 0 => of_cause(group.cause).to_owned(),
        _ => of_group(group, facts.clock),
    };
    let steps: Vec<_> = groups.iter().enumerate().map(step).collect();
    Some(format!("{begin}: {}.", steps.join("; then ")))
}

/// `All 12 upstreams have one cause, connect_timeout: no answer to SYNs.`
fn by_cause(facts: &Facts<'_>) -> Option<String> {
    let (cause, losses) = *facts.causes.first()?;
    let (all, upstreams) = (facts.totals.losses, facts.totals.upstreams);
    // What one upstream alone has is told of that one.
    let heaviest =
        facts.groups.iter().filter(|group| group.cause == cause).map(|group| group.losses).max()?;
    if upstreams < 2 || losses * 5 < all * 4 || heaviest * 5 >= losses * 4 {
        return None;
    }
    let begin = if losses == all {
        format!("All {upstreams} upstreams have one cause")
    } else {
        format!("{} of the losses at {upstreams} upstreams have one cause", share(losses, all))
    };
    Some(format!("{begin}, {cause}: {}.", of_cause(cause)))
}

/// Where it was not the upstreams' doing.
fn by_side(facts: &Facts<'_>) -> Option<String> {
    let mut sides = BTreeMap::<By, u64>::new();
    for group in facts.groups {
        *sides.entry(group.by).or_default() += group.losses;
    }
    let (side, losses) = sides.into_iter().max_by_key(|(_, losses)| *losses)?;
    let all = facts.totals.losses;
    if losses * 5 < all * 4 {
        return None;
    }
    let (who, look) = match side {
        By::Upstream | By::Unknown => return None,
        By::Gateway => ("the gateway itself", "look at its limits and at why the answers were slow"),
        By::Client => ("the clients", "the gateway and the upstreams did not end them"),
        By::Firewall => ("a packet filter", "look at the rules on the way"),
        By::Network => ("the network", "no process ended them"),
        By::Operator => ("somebody at this host", "ask who was at work"),
    };
    let part = if losses == all { "All of them".to_owned() } else { share(losses, all) };
    let were = if losses == all { "were ended" } else { "of them were ended" };
    Some(format!("{part} {were} by {who}: {look}."))
}

/// `kill-stuck killed 3 processes.`
fn killers(facts: &Facts<'_>) -> Option<String> {
    let mut killers = BTreeMap::<&str, u64>::new();
    // Who is missed by those who come later was killed once.
    let killed = facts.groups.iter().filter(|group| group.cause != Cause::NoListener);
    for culprit in killed.flat_map(|group| &group.culprits) {
        if let Some(killer) = &culprit.killed_by {
            *killers.entry(killer).or_default() += culprit.processes;
        }
    }
    let mut killers: Vec<_> = killers.into_iter().collect();
    killers.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    killers.truncate(NAMES);
    let told: Vec<_> =
        killers.iter().map(|(killer, number)| format!("{killer} ({})", count(*number, "process"))).collect();
    (!told.is_empty()).then(|| format!("Processes were killed by {}.", list(&told)))
}

/// Most of it in a small part of the time.
fn in_time(facts: &Facts<'_>) -> Option<String> {
    let Timeline { from, seconds, losses } = facts.timeline;
    let (from, all) = ((*from)?, losses.iter().sum::<u64>());
    let enough = |part: u64| part * 10 >= all * 9;
    // The shortest run of intervals that holds nine tenths.
    let (mut begin, mut held, mut shortest) = (0, 0, None::<(usize, usize, u64)>);
    for (end, here) in losses.iter().enumerate() {
        held += here;
        while enough(held - losses[begin]) && begin < end {
            held -= losses[begin];
            begin += 1;
        }
        if enough(held) && shortest.is_none_or(|(a, b, _)| end - begin < b - a) {
            shortest = Some((begin, end, held));
        }
    }
    let (begin, end, held) = shortest?;
    let run = end - begin + 1;
    if losses.len() < INTERVALS || run * 4 > losses.len() {
        return None;
    }
    let at = |interval: usize| {
        let offset = i64::try_from(*seconds).ok()?.checked_mul(i64::try_from(interval).ok()?)?;
        from.checked_add(SignedDuration::from_secs(offset)).ok()
    };
    let (start, stop) = (facts.clock.moment(at(begin)?), length(at(end + 1)?.duration_since(at(begin)?)));
    Some(format!("{} of them fell within {stop} from {start} on.", share(held, all)))
}

/// What the evidence of the heaviest group leaves open.
fn doubt(facts: &Facts<'_>) -> Option<String> {
    let group = facts.groups.first().filter(|group| !group.alternatives.is_empty())?;
    let names: Vec<_> = group.alternatives.iter().take(NAMES).map(|cause| cause.name().to_owned()).collect();
    let (cause, names) = (group.cause, names.join(", "));
    Some(format!("From this host alone, {cause} at {} may also be {names}.", group.address()))
}
