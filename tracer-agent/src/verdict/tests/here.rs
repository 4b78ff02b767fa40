//! What this side did: the gateway, its client, an operator; and what harmed nobody.

use super::*;
use crate::event::Existing;

#[test]
fn an_owner_is_known_by_the_ports_of_its_parent() {
    let worker = child_of(&process(500, "nginx"), 812, "nginx");
    let lost = SocketEnd { owner: Some(worker), ..leg() };
    let verdict =
        play(false, vec![listener(true, 1, process(500, "nginx")), Event::SocketEnd(lost)]).remove(0);
    assert_eq!(verdict.owner_listens, vec![80]);
}

#[test]
fn the_gateway_gives_up_after_a_while() {
    let verdict = one(&[closed_leg()]);
    check(&verdict, By::Gateway, Cause::GatewayTimeout, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.connection.since_request_ms, Some(1200.0));
    assert!(verdict.is_news());
}

#[test]
fn a_parting_word_before_the_close_is_no_lost_request() {
    let goodbye = one(&[SocketEnd { lsnd_age: 0, exchanges: 1, ..closed_leg() }]);
    check(&goodbye, By::Gateway, Cause::GatewayClosed, Impact::Unknown, Confidence::Inferred);
    assert!(!goodbye.is_news());
    let early = one(&[SocketEnd { lsnd_age: 5, ..closed_leg() }]);
    check(&early, By::Gateway, Cause::GatewayClosed, Impact::RequestLost, Confidence::Inferred);
}

#[test]
fn a_plain_client_that_gives_up_is_no_news() {
    let verdict = one(&[SocketEnd { owner_accepts: false, ..closed_leg() }]);
    assert!(!verdict.is_news());
    let lost = one(&[SocketEnd { owner_accepts: false, ..leg() }]);
    assert!(lost.is_news());
}

#[test]
fn a_client_that_left_first_is_the_cause() {
    let tail = SocketEnd {
        ktime_ns: 100 * SECOND + 50_000,
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..client_leg()
    };
    let events = [client_leg(), closed_leg(), tail].map(Event::SocketEnd).to_vec();
    let verdicts = play(false, events);
    assert_eq!(verdicts.len(), 1, "one line: {verdicts:#?}");
    check(&verdicts[0], By::Client, Cause::ClientGone, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn what_was_written_after_the_client_had_gone_was_not_for_it() {
    let left = SocketEnd { ktime_ns: 100 * SECOND - 25_000_000, lrcv_age: 10, ..client_leg() };
    let close = SocketEnd { lsnd_age: 0, exchanges: 1, unacked: 74, ..closed_leg() };
    let tail = SocketEnd {
        ktime_ns: left.ktime_ns + 50_000,
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..left.clone()
    };
    let verdict = play(false, [left.clone(), tail.clone(), close].map(Event::SocketEnd).to_vec()).remove(0);
    check(&verdict, By::Gateway, Cause::GatewayClosed, Impact::Unknown, Confidence::Inferred);
    assert!(!verdict.is_news());
    // The request had been written before the client left.
    let close = SocketEnd { lsnd_age: 10, exchanges: 1, unacked: 74, ..closed_leg() };
    let verdict = play(false, [left, tail, close].map(Event::SocketEnd).to_vec()).remove(0);
    assert_eq!(verdict.cause, Cause::ClientGone);
}

#[test]
fn a_client_that_left_before_the_upstream_was_reached_is_the_cause_too() {
    let connecting = SocketEnd {
        opened_ns: Some(100 * SECOND - 1_200_000_000),
        actor: Some(process(812, "nginx")),
        ..failed_connect(0)
    };
    let tail = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..client_leg()
    };
    let verdict = play(false, [client_leg(), connecting, tail].map(Event::SocketEnd).to_vec()).remove(0);
    check(&verdict, By::Client, Cause::ClientGone, Impact::RequestLost, Confidence::Proven);
}

/// What listens and becomes a daemon ends in its first process, and is a child of nobody known.
#[test]
fn a_client_that_left_a_daemon_is_the_cause() {
    let (starter, master) = (process(810, "nginx"), process(811, "nginx"));
    let worker = child_of(&master, 812, "nginx");
    let at = client_leg().tuple;
    let listening = Event::Listener(ListenerChange {
        ktime_ns: 90 * SECOND,
        skaddr: 0xe,
        address: at.local,
        netns: at.netns,
        netns_cookie: 0,
        listening: true,
        actor: Some(starter.clone()),
        backlog: 0,
        backlog_limit: 511,
    });
    let exit = Exit { code: Some(0), signal: None, oom: false };
    let ended = Event::ProcessExit(ProcessExit { ktime_ns: 91 * SECOND, process: dying(810, "nginx", exit) });
    let reset = SocketEnd { new_state: TcpState::Close, rst_received: true, ..client_leg() };
    let close = SocketEnd { actor: Some(worker), ..closed_leg() };

    let mut tables = tables(false);
    tables.apply(listening.clone());
    tables.apply(ended.clone());
    let asked = tables.take_questions();
    assert_eq!(asked.iter().map(|q| (q.local_port, q.peer_port)).collect::<Vec<_>>(), [(at.local.port(), 0)]);
    let held = |process: &Process| {
        Event::Existing(Existing {
            ktime_ns: 92 * SECOND,
            skaddr: 0xe,
            tuple: Tuple { peer: address("0.0.0.0:0"), ..at },
            netns_cookie: 0,
            state: TcpState::Listen,
            role: None,
            process: process.clone(),
            backlog: 0,
            backlog_limit: 511,
        })
    };
    let ends = [Event::SocketEnd(reset), Event::SocketEnd(close)];
    let verdict = play(false, [vec![listening, ended, held(&master)], ends.to_vec()].concat()).remove(0);
    check(&verdict, By::Client, Cause::ClientGone, Impact::RequestLost, Confidence::Inferred);
}

#[test]
fn a_client_of_another_request_is_not_the_cause() {
    // It came ten seconds earlier than the upstream request.
    let other = SocketEnd { lrcv_age: 250 * 10, ..client_leg() };
    let tail = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..other.clone()
    };
    let verdicts = play(false, [other, closed_leg(), tail].map(Event::SocketEnd).to_vec());
    assert_eq!(verdicts[0].cause, Cause::GatewayTimeout);
}

#[test]
fn the_gateways_own_death_is_told_as_such() {
    let verdict = one(&[SocketEnd { actor: Some(dying(812, "nginx", signalled(9))), ..closed_leg() }]);
    check(&verdict, By::Gateway, Cause::GatewayExited, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn a_request_that_nobody_acknowledged_is_lost_on_the_way() {
    let silent = SocketEnd { unacked: 97, retransmits: 4, retransmits_since_read: 4, ..closed_leg() };
    let verdict = one(&[silent]);
    check(&verdict, By::Network, Cause::PacketsLost, Impact::RequestLost, Confidence::Inferred);
    assert_eq!(verdict.connection.since_request_ms, None, "retransmissions moved the clock");
    let body = SocketEnd { unacked: 705_176, written_since_read: Some(827_212), ..closed_leg() };
    let dead = one(&[SocketEnd { timeouts: 3, retransmits_since_read: 5, ..body.clone() }]);
    assert_eq!(dead.cause, Cause::PacketsLost);
    let slow = one(&[SocketEnd { retransmits_since_read: 1, ..body }]);
    assert_eq!(slow.cause, Cause::GatewayTimeout, "the peer answers, and takes no more");
}

#[test]
fn an_operator_that_destroys_sockets_is_named() {
    let destroyed = SocketEnd { new_state: TcpState::Close, sk_err: 103, actor: None, shutdown: 0, ..leg() };
    let reset = Event::ResetSent(ResetSent {
        ktime_ns: 100 * SECOND - 10,
        skaddr: 0xa,
        tuple: destroyed.tuple,
        actor: Some(process(33, "ss")),
        reason: Some(14),
        state: TcpState::Established,
        passive: false,
    });
    let verdict = play(false, vec![reset, Event::SocketEnd(destroyed)]).remove(0);
    check(&verdict, By::Operator, Cause::SocketDestroyed, Impact::RequestLost, Confidence::Proven);
    assert_eq!((verdict.culprit.map(|c| c.process.tgid), verdict.rst_reason), (Some(33), Some(14)));
}

#[test]
fn what_harmed_nobody_is_no_news() {
    let healthy = |end: SocketEnd| SocketEnd { pending: false, exchanges: 1, bytes_received: 500, ..end };
    let cases = [
        (healthy(SocketEnd { lsnd_age: 1, lrcv_age: 1, ..closed_leg() }), By::Gateway, Cause::Graceful),
        (healthy(SocketEnd { lsnd_age: 1, lrcv_age: 1, ..leg() }), By::Upstream, Cause::Graceful),
        (healthy(leg()), By::Upstream, Cause::IdleClose),
        (
            SocketEnd { pending: false, bytes_sent: 0, lsnd_age: 0, lrcv_age: 0, ..closed_leg() },
            By::Gateway,
            Cause::Probe,
        ),
    ];
    for (end, by, cause) in cases {
        let verdict = one(&[end]);
        check(&verdict, by, cause, Impact::None, Confidence::Proven);
        assert!(!verdict.is_news());
    }
}

#[test]
fn a_gateway_that_gave_up_before_anybody_accepted_says_so() {
    let waiting = SocketEnd {
        no_socket: true,
        unread: 97,
        new_state: TcpState::CloseWait,
        actor: None,
        ..accepted(process(42, "api"))
    };
    let verdict = one(&[closed_leg(), waiting.clone()]);
    check(&verdict, By::Gateway, Cause::NeverAccepted, Impact::RequestLost, Confidence::Proven);
    let read = SocketEnd { no_socket: false, unread: 0, ..waiting.clone() };
    check(
        &one(&[closed_leg(), read.clone()]),
        By::Gateway,
        Cause::GatewayTimeout,
        Impact::RequestLost,
        Confidence::Proven,
    );

    // A client that waited no longer than that did not end it for a reason of its own.
    let tail = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..client_leg()
    };
    let left = |upstream: SocketEnd| {
        let events = [client_leg(), closed_leg(), upstream, tail.clone()];
        play(false, events.map(Event::SocketEnd).to_vec()).remove(0)
    };
    let (unaccepted, unanswered) = (left(waiting), left(read));
    for verdict in [&unaccepted, &unanswered] {
        check(verdict, By::Client, Cause::ClientGone, Impact::RequestLost, Confidence::Proven);
    }
    assert!(
        unaccepted.summary.ends_with("nobody there had accepted the connection by then: saturated or frozen")
    );
    assert!(
        unaccepted
            .evidence
            .contains(&"nobody had accepted the connection: 97 bytes wait there unread".into())
    );
    assert!(!unanswered.summary.contains("accepted"), "{}", unanswered.summary);
}

#[test]
fn a_close_over_an_unread_answer_rejects_it_unless_the_client_had_gone_or_it_was_a_goodbye() {
    let close = SocketEnd {
        pending: false,
        unread: 4000,
        bytes_received: 9000,
        exchanges: 1,
        lrcv_age: 0,
        ..closed_leg()
    };
    let verdict = one(std::slice::from_ref(&close));
    check(&verdict, By::Gateway, Cause::GatewayRejectedResponse, Impact::RequestLost, Confidence::Inferred);
    let stalled = one(&[SocketEnd { lrcv_age: 250, ..close.clone() }]);
    check(&stalled, By::Client, Cause::ClientGone, Impact::RequestLost, Confidence::Inferred);
    assert_eq!(stalled.alternatives, [Cause::GatewayRejectedResponse]);
    let goodbye = one(&[SocketEnd { unread: 31, ..close.clone() }]);
    assert_eq!(goodbye.impact, Impact::None);
    let leg = SocketEnd { unanswered: false, answering: true, ..client_leg() };
    let tail = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..leg.clone()
    };
    let verdicts = play(false, [leg, close, tail].map(Event::SocketEnd).to_vec());
    assert_eq!(verdicts.len(), 1, "one line: {verdicts:#?}");
    assert_ne!(verdicts[0].cause, Cause::GatewayRejectedResponse);
}

#[test]
fn a_goodbye_just_written_does_not_make_the_request_young() {
    // TLS's close_notify went out 1 s after the request, right before the close.
    let over_tls = SocketEnd {
        lsnd_age: 0,
        ack_age: 250,
        unacked: 31,
        exchanges: 2,
        written_since_read: Some(128),
        ..closed_leg()
    };
    let verdict = one(std::slice::from_ref(&over_tls));
    check(&verdict, By::Gateway, Cause::GatewayTimeout, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.connection.since_request_ms, Some(1000.0));
    // Nothing but the goodbye was written since the answer: nothing is owed.
    let healthy = one(&[SocketEnd { written_since_read: Some(31), ..over_tls }]);
    assert_eq!(healthy.impact, Impact::Unknown);
    assert!(!healthy.is_news());
}

#[test]
fn a_half_close_gives_nothing_up() {
    let half = SocketEnd { shutdown: 2, lsnd_age: 0, ..closed_leg() };
    let tail = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..client_leg()
    };
    let verdicts = play(false, [client_leg(), half, tail].map(Event::SocketEnd).to_vec());
    check(&verdicts[0], By::Gateway, Cause::Graceful, Impact::None, Confidence::Proven);
}

#[test]
fn last_words_are_no_request_that_a_client_left_behind() {
    let words =
        SocketEnd { exchanges: 3, lsnd_age: 0, unacked: 69, written_since_read: Some(69), ..closed_leg() };
    let client = SocketEnd { lrcv_age: 0, ..client_leg() };
    let tail = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::LastAck,
        actor: Some(process(812, "nginx")),
        ..client.clone()
    };
    let verdict = play(false, [client, words, tail].map(Event::SocketEnd).to_vec()).remove(0);
    assert!(!verdict.is_news(), "{verdict:#?}");
}
