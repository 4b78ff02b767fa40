//! Connects that failed.

use crate::event::Role;
use crate::event::errno::ETIMEDOUT;
use crate::verdict::finding::Finding;
use crate::verdict::{By, Cause, Culprit, Impact, Story};

/// connect(2) found no local port: there was a SYN_SENT, and never a tuple.
pub fn no_local_port(story: &Story<'_>) -> Option<Finding> {
    (story.connecting() && story.end.tuple.local.port() == 0)
        .then(|| Finding::new(By::Gateway, Cause::GatewayResource, Impact::ConnectFailed))
}

pub fn owner_died(story: &Story<'_>) -> Option<Finding> {
    let process = story.end.actor.clone()?;
    let gone = story.connecting()
        && story.end.role == Role::Client
        && story.end.sk_err == 0
        && process.exit.is_some();
    gone.then(|| {
        let culprit = Culprit { exit: story.owner_exit, killed_by: story.owner_killer().cloned(), process };
        Finding::new(By::Gateway, Cause::GatewayExited, Impact::ConnectFailed).culprit(Some(culprit))
    })
}

/// Proven if this host's own kernel answered that no socket listens there; else a packet filter may have. (That
/// answer is proof even where the hook of the RST itself was skipped, as the kernel does when a hook interrupts
/// itself on one CPU.)
pub fn refused(story: &Story<'_>) -> Option<Finding> {
    let refused = story.end.rst_received || story.end.refused_in_netns.is_some();
    if !story.connecting() || !refused {
        return None;
    }
    let finding = Finding::new(By::Upstream, Cause::NoListener, Impact::ConnectFailed);
    if story.end.refused_in_netns.is_none() {
        return Some(finding.inferred(&[Cause::FirewallRejected]));
    }
    let culprit = story.last_listener.as_ref().map(|last| Culprit {
        process: last.process.clone(),
        exit: last.exit,
        killed_by: last.killed_by.clone(),
    });
    Some(finding.culprit(culprit))
}

/// Proven if this host itself found nobody at the next hop; else a router, or a packet filter, said so by ICMP.
pub fn unreachable(story: &Story<'_>) -> Option<Finding> {
    let finding = Finding::new(By::Network, Cause::HostUnreachable, Impact::ConnectFailed);
    let silent = matches!(story.end.sk_err, 0 | ETIMEDOUT) && !story.gave_up_at_once();
    if !story.connecting() || silent && !story.end.unresolved {
        return None;
    }
    Some(if story.end.unresolved { finding } else { finding.inferred(&[Cause::FirewallRejected]) })
}

/// Silence: from here a drop, a host that is gone and a full accept queue look the same.
pub fn unanswered(story: &Story<'_>) -> Option<Finding> {
    let silent = story.end.sk_err == ETIMEDOUT || story.end.retransmits > 0;
    (story.connecting() && silent).then(|| {
        Finding::new(By::Network, Cause::ConnectTimeout, Impact::ConnectFailed)
            .inferred(&[Cause::AcceptQueueFull, Cause::FirewallRejected])
    })
}

/// The gateway stopped connecting since its client had left.
pub fn client_gone(story: &Story<'_>) -> Option<Finding> {
    let left = story.client_left.as_ref().filter(|_| story.connecting() && story.end.sk_err == 0)?;
    let finding = Finding::new(By::Client, Cause::ClientGone, Impact::RequestLost);
    Some(if left.same_process { finding } else { finding.inferred(&[Cause::GatewayConnectTimeout]) })
}

pub fn given_up(story: &Story<'_>) -> Option<Finding> {
    story.connecting().then(|| Finding::new(By::Gateway, Cause::GatewayConnectTimeout, Impact::ConnectFailed))
}
