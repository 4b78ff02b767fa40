//! The words for Unix sockets: one sentence to act on, and the facts it stands on.

use super::Story;
use crate::event::{UnixHow, errno};
use crate::verdict::finding::Finding;
use crate::verdict::words::{exit_words, killer, named, seconds};
use crate::verdict::{By, Cause, Impact};

/// One sentence that an operator can act on.
pub fn summary(story: &Story<'_>, finding: &Finding) -> String {
    if finding.impact == Impact::None {
        return healthy(story, finding);
    }
    let connection = &story.end.connection;
    let (owner, path) = (owner(story), &connection.path);
    let age = story.since_request_ms();
    let old = age.map_or_else(String::new, |ms| format!(" {} old", seconds(ms)));
    let after = age.map_or_else(String::new, |ms| format!(" {} after the request", seconds(ms)));
    let culprit = finding.culprit.as_ref();
    let server = culprit.map_or_else(|| "the process there".into(), |c| named(&c.process));
    let exit = culprit.and_then(|c| c.exit).map_or_else(|| "gone".into(), exit_words);
    match finding.cause {
        Cause::GatewayExited => {
            format!("{owner} ended with a request to unix:{path} pending ({exit}{})", killer(culprit))
        }
        Cause::ClientGone => {
            format!("the client had left, so {owner} dropped the request to unix:{path}{after}")
        }
        Cause::NeverAccepted if finding.by == By::Gateway => format!(
            "{owner} gave up on a request to unix:{path}{after}: nobody had read it, since all workers there are \
             busy or stand still"
        ),
        Cause::NeverAccepted => format!(
            "{owner} lost a request{old}: it waited in the backlog of unix:{path}, and was never read before the \
             listener was closed"
        ),
        Cause::GatewayTimeout => format!(
            "{owner} gave up waiting for unix:{path}{after}, while its client was still there: its read timeout, \
             or a slow upstream"
        ),
        Cause::GatewayClosed => {
            format!("{owner} closed the connection to unix:{path} with a request pending{after}")
        }
        Cause::OomKilled => format!("{owner} lost a request{old}: {server} was OOM-killed"),
        Cause::ProcessCrashed => format!("{owner} lost a request{old}: {server} crashed ({exit})"),
        Cause::ProcessKilled => {
            format!("{owner} lost a request{old}: {server} was killed ({exit}){}", killer(culprit))
        }
        Cause::ProcessExited => format!("{owner} lost a request{old}: {server} exited ({exit})"),
        Cause::WorkerTimeout => format!(
            "{owner} lost a request{old}: its master{} ended {server}, which had worked on it for too long ({exit})",
            culprit.and_then(|c| c.killed_by.as_ref()).map_or_else(String::new, |k| format!(" {}", named(k)))
        ),
        Cause::ServiceStopped => format!(
            "{owner} lost a request{old}: {server} was told to stop or to reload with it in flight ({exit}{})",
            killer(culprit)
        ),
        Cause::KeepaliveRace => format!(
            "{server} closed the idle connection of {owner} to unix:{path} while the next request was on its way: \
             keep idle connections for less"
        ),
        Cause::ClosedUnreadData => {
            format!("{owner} lost a request{old}: {server} closed unix:{path} without reading all of it")
        }
        Cause::ResetWithoutResponse => {
            format!(
                "{owner} lost a request{old}: unix:{path} was closed over unread data, as a dying process leaves it"
            )
        }
        Cause::ClosedWithoutResponse => {
            format!("{owner} lost a request: {server} closed unix:{path} without an answer{after}")
        }
        Cause::ResetMidResponse => format!(
            "a response of unix:{path} to {owner} may be cut short: closed over unread data after {} bytes of it",
            connection.bytes_received
        ),
        _ => format!("the connection of {owner} to unix:{path} ended, and the evidence does not say why"),
    }
}

fn healthy(story: &Story<'_>, finding: &Finding) -> String {
    let path = &story.end.connection.path;
    let side = if finding.by == By::Gateway { owner(story) } else { "the server".to_owned() };
    match finding.cause {
        Cause::Probe => format!("{side} closed the connection to unix:{path} unused"),
        Cause::IdleClose => format!("{side} closed the idle connection to unix:{path}"),
        _ => format!("{side} closed the connection to unix:{path}, nothing was owed"),
    }
}

/// The facts, one short sentence each.
pub fn evidence(story: &Story<'_>, finding: &Finding) -> Vec<String> {
    let connection = &story.end.connection;
    let mut facts = vec![ending(story)];
    facts.push(format!(
        "{}: {} bytes sent, {} received",
        if connection.pending { "a request was waiting" } else { "nothing was waiting" },
        connection.bytes_sent,
        connection.bytes_received
    ));
    facts.push(match &connection.server {
        Some(server) if story.request_was_read() => format!("{} had read it", named(server)),
        Some(server) => format!("{} served it, and had not read what was sent last", named(server)),
        None if story.vantage => "who serves it cannot be seen from here".to_owned(),
        None => "nobody had read it".to_owned(),
    });
    if connection.server_closed {
        facts.push("the accepted end was closed by a process that lived".to_owned());
    }
    facts.extend(story.client_left.as_ref().map(|left| {
        format!(
            "its client {} had {} {} before, its request unanswered",
            left.tuple.peer,
            if left.reset { "reset the connection" } else { "closed" },
            seconds(story.ms_since(left.ktime_ns))
        )
    }));
    if let Some(culprit) = &finding.culprit {
        facts.extend(culprit.exit.map(|exit| {
            let oom = if exit.oom { ", chosen by the OOM killer" } else { "" };
            format!("{} ended: {}{oom}{}", named(&culprit.process), exit_words(exit), killer(Some(culprit)))
        }));
    }
    facts
}

fn ending(story: &Story<'_>) -> String {
    let returned = errno::words(story.end.errno);
    match story.end.how {
        UnixHow::EndOfStream => "a read found the end of the stream".to_owned(),
        UnixHow::Reset => format!("a read returned {returned}: something was left unread at the other end"),
        UnixHow::Broken => format!("a write returned {returned}: the other end had gone"),
        UnixHow::Closed => "its own process closed it".to_owned(),
        UnixHow::OwnerGone => format!("the server's answer found nobody: its write returned {returned}"),
    }
}

fn owner(story: &Story<'_>) -> String {
    story.end.connection.owner.as_ref().map_or_else(|| "the owner".into(), named)
}
