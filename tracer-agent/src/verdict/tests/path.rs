//! What happened between the two ends: filters, full queues, hosts that forgot, RSTs of nobody.

use super::*;
use crate::event::{Existing, QueueDrops};

const FOUND: u64 = 100 * SECOND + 50_000_000;

fn found(tuple: Tuple, state: TcpState, backlog: u32) -> Event {
    Event::Existing(Existing {
        ktime_ns: FOUND,
        skaddr: 0xf,
        tuple,
        netns_cookie: 0,
        state,
        role: Some(Role::Server),
        process: process(991, "api"),
        backlog,
        backlog_limit: 128,
    })
}

fn listening_at(address_text: &str, backlog: u32) -> Event {
    let tuple = Tuple { local: address(address_text), peer: address("0.0.0.0:0"), netns: 2 };
    found(tuple, TcpState::Listen, backlog)
}

/// SYNs went unanswered.
fn silence() -> SocketEnd {
    SocketEnd { retransmits: 2, ..failed_connect(0) }
}

#[test]
fn a_filter_that_is_seen_to_act_is_proven() {
    use By::Firewall;
    let filtered = |end| SocketEnd { filtered_in_netns: Some(2), ..end };
    let reset = SocketEnd { rst_received: true, ..failed_connect(111) };
    for refused in [reset, failed_connect(111), failed_connect(113)] {
        let verdict = one(&[filtered(refused)]);
        check(&verdict, Firewall, Cause::FirewallRejected, Impact::ConnectFailed, Confidence::Proven);
        assert!(verdict.summary.contains("network namespace 2"), "{}", verdict.summary);
    }
    for silent in [silence(), failed_connect(0), SocketEnd { retransmits: 6, ..failed_connect(110) }] {
        let verdict = one(&[filtered(silent)]);
        check(&verdict, Firewall, Cause::ConnectTimeout, Impact::ConnectFailed, Confidence::Proven);
    }
    let answer = SocketEnd { answer_filtered_in_netns: Some(1), ..silence() };
    let verdict = one(&[answer]);
    check(&verdict, Firewall, Cause::ConnectTimeout, Impact::ConnectFailed, Confidence::Proven);
    assert!(verdict.summary.starts_with("the gateway's own packet filter"), "{}", verdict.summary);
    let live = one(&[filtered(reset_leg())]);
    check(&live, Firewall, Cause::FirewallRejected, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn a_refusal_by_the_kernel_itself_outweighs_a_segment_that_a_filter_dropped() {
    let end = SocketEnd {
        rst_received: true,
        refused_in_netns: Some(2),
        filtered_in_netns: Some(1),
        ..failed_connect(111)
    };
    check(&one(&[end]), By::Upstream, Cause::NoListener, Impact::ConnectFailed, Confidence::Proven);
}

#[test]
fn nobody_at_the_next_hop_is_proven_where_it_was_seen() {
    let end = SocketEnd { unresolved: true, ..failed_connect(113) };
    check(&one(&[end]), By::Network, Cause::HostUnreachable, Impact::ConnectFailed, Confidence::Proven);
    check(
        &one(&[failed_connect(113)]),
        By::Network,
        Cause::HostUnreachable,
        Impact::ConnectFailed,
        Confidence::Inferred,
    );
}

#[test]
fn syns_that_find_the_queue_full_are_told_by_looking() {
    let verdicts = |waiting| {
        let events = vec![
            listening_at("0.0.0.0:80", 0),
            Event::SocketEnd(silence()),
            listening_at("0.0.0.0:80", waiting),
        ];
        play(false, events).remove(0)
    };
    let full = verdicts(129);
    check(&full, By::Upstream, Cause::AcceptQueueFull, Impact::ConnectFailed, Confidence::Proven);
    assert_eq!(full.culprit.map(|c| c.process.tgid), Some(991));
    assert!(full.summary.contains("129 wait, 128 may"), "{}", full.summary);
    // The kernel lets one more wait than it says.
    check(&verdicts(128), By::Network, Cause::ConnectTimeout, Impact::ConnectFailed, Confidence::Inferred);
}

#[test]
fn of_several_listeners_that_may_be_meant_all_have_to_be_full() {
    let elsewhere = Tuple { local: address("0.0.0.0:80"), peer: address("0.0.0.0:0"), netns: 3 };
    let events = vec![
        listening_at("0.0.0.0:80", 0),
        Event::SocketEnd(silence()),
        listening_at("0.0.0.0:80", 129),
        found(elsewhere, TcpState::Listen, 3),
    ];
    check(
        &play(false, events).remove(0),
        By::Network,
        Cause::ConnectTimeout,
        Impact::ConnectFailed,
        Confidence::Inferred,
    );
}

#[test]
fn only_what_may_be_on_this_host_is_asked_for() {
    let mut tables = tables(false);
    tables.apply(Event::SocketEnd(silence()));
    assert!(!tables.has_questions(), "nothing listens on port 80 here");
    tables.apply(listening_at("0.0.0.0:80", 0));
    tables.apply(Event::SocketEnd(SocketEnd { cookie: 2, ..silence() }));
    tables.apply(Event::SocketEnd(SocketEnd { cookie: 3, ..silence() }));
    assert_eq!(tables.take_questions().len(), 1);
    assert!(!tables.has_questions());
}

#[test]
fn a_full_queue_behind_an_established_connection() {
    let reset = SocketEnd { queue_reset: true, ..reset_leg() };
    check(&one(&[reset]), By::Upstream, Cause::AcceptQueueFull, Impact::RequestLost, Confidence::Proven);
    let unused = SocketEnd { queue_reset: true, pending: false, bytes_sent: 0, ..reset_leg() };
    check(&one(&[unused]), By::Upstream, Cause::AcceptQueueFull, Impact::ConnectFailed, Confidence::Proven);
    let ghost = SocketEnd { queue_dropped: true, unacked: 97, retransmits_since_read: 4, ..closed_leg() };
    check(&one(&[ghost]), By::Upstream, Cause::AcceptQueueFull, Impact::RequestLost, Confidence::Proven);
    // A queue that let it in after all has nothing to do with what came later.
    let accepted = SocketEnd { queue_dropped: true, ..closed_leg() };
    check(&one(&[accepted]), By::Gateway, Cause::GatewayTimeout, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn a_host_that_does_not_know_the_connection_has_forgotten_it() {
    let end = SocketEnd { stranger: true, exchanges: 1, unacked: 97, ..reset_leg() };
    check(&one(&[end]), By::Upstream, Cause::ConnectionForgotten, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn a_reset_that_neither_end_sent_was_forged() {
    let too = SocketEnd {
        new_state: TcpState::Close,
        sk_err: 104,
        rst_received: true,
        shutdown: 0,
        ..accepted(process(42, "api"))
    };
    let verdict = one(&[too, reset_leg()]);
    check(&verdict, By::Network, Cause::MiddleboxReset, Impact::RequestLost, Confidence::Proven);
    let alive = accepted(process(42, "api")).tuple;
    let events = vec![Event::SocketEnd(reset_leg()), found(alive, TcpState::Established, 0)];
    check(
        &play(false, events).remove(0),
        By::Network,
        Cause::MiddleboxReset,
        Impact::RequestLost,
        Confidence::Proven,
    );
    // Another connection of the same server is no witness.
    let other = Tuple { peer: address("10.0.0.1:40001"), ..alive };
    let events = vec![Event::SocketEnd(reset_leg()), found(other, TcpState::Established, 0)];
    check(
        &play(false, events).remove(0),
        By::Upstream,
        Cause::ResetWithoutResponse,
        Impact::RequestLost,
        Confidence::Inferred,
    );
}

#[test]
fn who_gives_up_at_once_was_told_so() {
    let at_once = SocketEnd { opened_ns: Some(100 * SECOND - 400_000), ..failed_connect(0) };
    let verdict = one(std::slice::from_ref(&at_once));
    check(&verdict, By::Network, Cause::HostUnreachable, Impact::ConnectFailed, Confidence::Inferred);
    let filtered = one(&[SocketEnd { filtered_in_netns: Some(2), ..at_once }]);
    check(&filtered, By::Firewall, Cause::FirewallRejected, Impact::ConnectFailed, Confidence::Proven);
}

/// The facts about dropped handshakes in the verdict on `end`, with a listener on port 80 of namespace 2 with so many
/// connections waiting, and these drops.
fn counted(end: SocketEnd, waiting: u32, drops: QueueDrops) -> (Verdict, Vec<String>) {
    let mut tables = tables(false);
    tables.apply(listening_at("0.0.0.0:80", 0));
    tables.apply(Event::SocketEnd(end));
    tables.apply(listening_at("0.0.0.0:80", waiting));
    tables.dropped(drops);
    let ended = tables.settled(FOUND + SETTLE_NS).expect("an end that waits");
    let verdict = of(&tables, &ended).expect("a verdict");
    let facts = verdict.evidence.iter().filter(|fact| fact.contains("the kernel counted")).cloned().collect();
    (verdict, facts)
}

/// 12 overflows in namespace 2, from a second before [`leg`] began until it had ended.
fn overflows() -> QueueDrops {
    QueueDrops {
        since_ns: 98 * SECOND,
        ktime_ns: FOUND,
        netns: 2,
        overflows: 12,
        drops: 13,
        handshakes_full: 0,
    }
}

#[test]
fn what_the_kernel_counted_of_full_queues_is_told_where_one_may_be_the_cause() {
    let fact = "the kernel counted 12 overflows of accept queues in network namespace 2 within 2.050 s (ListenOverflows)";
    let (full, facts) = counted(silence(), 129, overflows());
    check(&full, By::Upstream, Cause::AcceptQueueFull, Impact::ConnectFailed, Confidence::Proven);
    assert_eq!(facts, [fact]);
    // It counts for all listeners of the namespace, so it proves nothing of this one.
    let (empty, facts) = counted(silence(), 0, overflows());
    check(&empty, By::Network, Cause::ConnectTimeout, Impact::ConnectFailed, Confidence::Inferred);
    assert_eq!(facts, [fact]);
    let ghost = SocketEnd { queue_dropped: true, unacked: 97, retransmits_since_read: 4, ..closed_leg() };
    assert_eq!(counted(ghost, 0, overflows()).1, [fact]);
    let syns = QueueDrops { overflows: 0, handshakes_full: 1, ..overflows() };
    let (_, facts) = counted(silence(), 0, syns);
    assert!(facts[0].contains("counted 1 SYN that found a full queue of handshakes"), "{facts:?}");
    let other = QueueDrops { overflows: 0, ..overflows() };
    let (_, facts) = counted(silence(), 0, other);
    assert!(
        facts[0].ends_with(
            "13 handshakes dropped by listeners in network namespace 2 within 2.050 s (ListenDrops)"
        )
    );
}

#[test]
fn what_was_counted_elsewhere_or_at_another_time_is_no_evidence() {
    let none: [String; 0] = [];
    for drops in [
        QueueDrops { netns: 3, ..overflows() },
        QueueDrops { since_ns: 90 * SECOND, ktime_ns: 99 * SECOND, ..overflows() },
        QueueDrops { since_ns: 101 * SECOND, ktime_ns: 102 * SECOND, ..overflows() },
    ] {
        assert_eq!(counted(silence(), 129, drops).1, none, "{drops:?}");
    }
    // The connection was accepted and served, or the SYN was answered: no queue was full.
    assert_eq!(counted(SocketEnd { exchanges: 1, ..closed_leg() }, 0, overflows()).1, none);
    let filtered = SocketEnd { filtered_in_netns: Some(2), ..silence() };
    assert_eq!(counted(filtered, 0, overflows()).1, none);
}
