//! The facts that a verdict stands on.

use super::{exit_words, killer, learned, named, seconds, stop};
use crate::event::Role;
use crate::verdict::finding::Finding;
use crate::verdict::{Cause, Story};

/// The facts, one short sentence each.
pub fn evidence(story: &Story<'_>, finding: &Finding) -> Vec<String> {
    let mut facts = vec![ending(story)];
    if !story.connecting() {
        facts.push(accounting(story));
        facts.extend(other_end(story));
    }
    facts.extend(on_the_way(story));
    facts.extend(dropped(story, finding));
    facts.extend(learned::evidence(story, finding));
    facts.extend(story.client_left.as_ref().map(|left| {
        format!(
            "its client {} had {} {} before, its request unanswered",
            left.tuple.peer,
            if left.reset { "reset the connection" } else { "closed" },
            seconds(story.end.ktime_ns.saturating_sub(left.ktime_ns) as f64 / 1e6)
        )
    }));
    if let Some(c) = finding.culprit.as_ref() {
        facts.extend(c.exit.map(|exit| {
            let oom = if exit.oom { ", chosen by the OOM killer" } else { "" };
            format!("{} ended: {}{oom}{}", named(&c.process), exit_words(exit), killer(Some(c)))
        }));
        facts.extend(stop::evidence(story, finding));
    }
    facts
}

fn ending(story: &Story<'_>) -> String {
    let end = story.end;
    let errno = if end.sk_err == 0 { String::new() } else { format!(", sk_err {}", end.sk_err) };
    format!(
        "{} to {}{errno}{}",
        end.old_state,
        end.new_state,
        match (end.rst_received, end.fin_seen) {
            (true, _) => ", RST received",
            (false, true) => ", FIN seen by tcp_fin",
            (false, false) => "",
        }
    )
}

fn accounting(story: &Story<'_>) -> String {
    let end = story.end;
    let waiting = match end.role {
        Role::Client if end.pending => "a request was waiting",
        Role::Server if end.unanswered => "an answer was owed",
        _ => "nothing was waiting",
    };
    format!(
        "{waiting}: {} bytes sent, {} received, {} unread, {} not acknowledged",
        end.bytes_sent, end.bytes_received, end.unread, end.unacked
    )
}

fn other_end(story: &Story<'_>) -> Option<String> {
    let other = story.other?;
    if story.waits_to_be_accepted() {
        return Some(format!("nobody had accepted the connection: {} bytes wait there unread", other.unread));
    }
    let by = other.actor.as_ref().map_or_else(|| "nobody to be seen".into(), named);
    let linger = if other.linger0 { ", SO_LINGER 0" } else { "" };
    Some(format!(
        "the accepted end was closed by {by}: {} bytes received, {} unread, {} sent{linger}",
        other.bytes_received, other.unread, other.bytes_sent
    ))
}

/// What became of the connection's segments on this host.
fn on_the_way(story: &Story<'_>) -> Vec<String> {
    let end = story.end;
    let mut facts = Vec::new();
    facts.extend(end.refused_in_netns.map(|netns| {
        format!(
            "the kernel of this host refused the SYN in network namespace {netns}: no socket listens there"
        )
    }));
    facts.extend(
        end.filtered_in_netns.map(|netns| {
            format!("netfilter dropped a segment of this connection in network namespace {netns}")
        }),
    );
    facts.extend(
        end.answer_filtered_in_netns
            .map(|netns| format!("netfilter dropped a segment of the peer in network namespace {netns}")),
    );
    let plain = [
        (end.unresolved, "a segment was dropped on this host: its next hop has no link-layer address"),
        (
            end.stranger,
            "the kernel of this host answered a segment with a RST: it does not know the connection",
        ),
        (
            end.queue_reset,
            "the listener answered the end of the handshake with a RST: its accept queue was full",
        ),
        (end.queue_dropped, "the listener dropped the end of the handshake: its accept queue was full"),
        (story.other_end_lives, "the accepted end is still open on this host: it has sent no RST"),
    ];
    facts.extend(plain.into_iter().filter(|(seen, _)| *seen).map(|(_, fact)| fact.to_owned()));
    facts.extend(story.full_queue.as_ref().map(|(queue, _)| {
        format!("{} connections wait to be accepted there, {} may", queue.waiting, queue.limit)
    }));
    facts
}

/// What the kernel counted of full queues, where one may be the cause. It counts for all listeners of a namespace
/// together, so it supports a verdict and decides none.
fn dropped(story: &Story<'_>, finding: &Finding) -> Vec<String> {
    let may_be =
        finding.cause == Cause::AcceptQueueFull || finding.alternatives.contains(&Cause::AcceptQueueFull);
    let Some(drops) = story.queue_drops.filter(|_| may_be) else { return vec![] };
    let within = seconds(drops.ktime_ns.saturating_sub(drops.since_ns) as f64 / 1e6);
    let counted = |count: u64, what: &str, counter: &str| {
        let plural = if count == 1 { "" } else { "s" };
        let what = what.replacen('#', plural, 1);
        (count > 0).then(|| {
            let netns = drops.netns;
            format!(
                "the kernel counted {count} {what} in network namespace {netns} within {within} ({counter})"
            )
        })
    };
    let mut facts = Vec::new();
    facts.extend(counted(drops.overflows, "overflow# of accept queues", "ListenOverflows"));
    facts.extend(counted(
        drops.handshakes_full,
        "SYN# that found a full queue of handshakes",
        "TCPReqQFullDrop",
    ));
    if facts.is_empty() {
        facts.extend(counted(drops.drops, "handshake# dropped by listeners", "ListenDrops"));
    }
    facts
}
