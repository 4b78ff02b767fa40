//! The rules over made-up stories: each rule, its look-alikes, and what must stay silent. The stories of real
//! servers are in the integration tests.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::event::{Event, ListenerChange, ProcessExit, ResetSent, SignalSent, SocketEnd, TcpState};
use crate::table::{SETTLE_NS, Settings, Tables};

const SECOND: u64 = 1_000_000_000;

fn process(tgid: u32, comm: &str) -> Process {
    Process {
        tgid,
        parent_tgid: 1,
        start_boottime: u64::from(tgid) * 1000,
        comm: comm.into(),
        cgroup_id: 0,
        netns: 1,
        exit: None,
        kernel_thread: false,
    }
}

fn dying(tgid: u32, comm: &str, exit: Exit) -> Process {
    Process { exit: Some(exit), ..process(tgid, comm) }
}

fn signalled(number: u8) -> Exit {
    Exit { code: None, signal: Some(number), oom: false }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A gateway's leg whose peer closed it with a request pending.
fn leg() -> SocketEnd {
    SocketEnd {
        ktime_ns: 100 * SECOND,
        skaddr: 0xa,
        cookie: 1,
        opened_ns: Some(99 * SECOND),
        role: Role::Client,
        tuple: Tuple { local: address("10.0.0.1:40000"), peer: address("10.0.0.2:80"), netns: 1 },
        old_state: TcpState::Established,
        new_state: TcpState::CloseWait,
        owner: Some(process(812, "nginx")),
        actor: None,
        sk_err: 0,
        shutdown: 1,
        rst_received: false,
        fin_seen: false,
        linger0: false,
        no_socket: false,
        pending: true,
        owner_accepts: true,
        preexisting: false,
        marked: true,
        unanswered: false,
        refused_in_netns: None,
        bytes_received: 0,
        bytes_sent: 97,
        unread: 0,
        unacked: 0,
        write_seq: 1097,
        rcv_nxt: 5001,
        lsnd_age: 300,
        lrcv_age: 300,
        retransmits: 0,
        retransmits_since_read: 0,
        srtt_us: 180,
        exchanges: 0,
        written_since_read: Some(97),
    }
}

/// The accepted end of [`leg`], closed by `actor` a moment earlier.
fn accepted(actor: Process) -> SocketEnd {
    SocketEnd {
        ktime_ns: 100 * SECOND - 1000,
        skaddr: 0xb,
        cookie: 2,
        opened_ns: None,
        role: Role::Server,
        tuple: Tuple { local: address("10.0.0.2:80"), peer: address("10.0.0.1:40000"), netns: 2 },
        new_state: TcpState::FinWait1,
        owner: None,
        actor: Some(actor),
        shutdown: 3,
        pending: false,
        owner_accepts: false,
        marked: false,
        unanswered: true,
        bytes_received: 97,
        bytes_sent: 0,
        write_seq: 5000,
        rcv_nxt: 1097,
        ..leg()
    }
}

/// A RST that came for [`leg`].
fn reset_leg() -> SocketEnd {
    SocketEnd { new_state: TcpState::Close, sk_err: 104, rst_received: true, shutdown: 0, ..leg() }
}

/// The owner closed [`leg`].
fn closed_leg() -> SocketEnd {
    SocketEnd { new_state: TcpState::FinWait1, actor: Some(process(812, "nginx")), shutdown: 3, ..leg() }
}

fn tables(vantage: bool) -> Tables {
    Tables::new(Settings { hz: 250, vantage })
}

/// Plays events and returns the verdicts, all that had to wait included.
fn play(vantage: bool, events: Vec<Event>) -> Vec<Verdict> {
    let mut tables = tables(vantage);
    let mut verdicts = Vec::new();
    let mut last = 0;
    for event in events {
        last = last.max(event.ktime_ns());
        if let Some(end) = tables.apply(event) {
            verdicts.extend(Story::gather(&tables, &end).and_then(|s| judge(&s)));
        }
    }
    while let Some(end) = tables.settled(last + SETTLE_NS) {
        verdicts.extend(Story::gather(&tables, &end).and_then(|s| judge(&s)));
    }
    verdicts
}

/// The one verdict on these ends.
fn one(ends: &[SocketEnd]) -> Verdict {
    let mut verdicts = play(false, ends.iter().cloned().map(Event::SocketEnd).collect());
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

fn check(verdict: &Verdict, by: By, cause: Cause, impact: Impact, confidence: Confidence) {
    let got = (verdict.by, verdict.cause, verdict.impact, verdict.confidence);
    assert_eq!(got, (by, cause, impact, confidence), "{verdict:#?}");
}

#[test]
fn a_fin_with_a_request_pending_is_a_close_without_response() {
    let both = one(&[accepted(process(7, "api")), leg()]);
    check(&both, By::Upstream, Cause::ClosedWithoutResponse, Impact::RequestLost, Confidence::Proven);
    assert_eq!(both.culprit.as_ref().map(|c| c.process.tgid), Some(7));
    let alone = one(&[leg()]);
    check(&alone, By::Upstream, Cause::ClosedWithoutResponse, Impact::RequestLost, Confidence::Inferred);
    assert!(alone.alternatives.contains(&Cause::OomKilled) && alone.culprit.is_none());
}

#[test]
fn the_record_of_the_other_end_may_come_later() {
    let verdict = one(&[leg(), accepted(process(7, "api"))]);
    assert_eq!(verdict.confidence, Confidence::Proven);
}

#[test]
fn another_connection_with_the_same_addresses_is_not_the_other_end() {
    let mut stranger = accepted(dying(7, "api", signalled(11)));
    stranger.write_seq = stranger.write_seq.wrapping_add(1 << 30);
    let verdicts = play(false, vec![Event::SocketEnd(stranger), Event::SocketEnd(leg())]);
    assert_eq!(verdicts[0].cause, Cause::ClosedWithoutResponse);
    assert_eq!(verdicts[0].culprit, None);
}

#[test]
fn a_dying_process_is_the_cause_and_says_how() {
    let cases = [
        (signalled(11), Cause::ProcessCrashed),
        (Exit { code: Some(3), signal: None, oom: false }, Cause::ProcessExited),
        (Exit { code: None, signal: Some(9), oom: true }, Cause::OomKilled),
    ];
    for (exit, cause) in cases {
        let verdict = one(&[accepted(dying(7, "api", exit)), leg()]);
        check(&verdict, By::Upstream, cause, Impact::RequestLost, Confidence::Proven);
        assert_eq!(verdict.culprit.and_then(|c| c.exit), Some(exit));
    }
}

fn signal(target: &Process, sender: &Process, number: u32) -> Event {
    Event::Signal(SignalSent {
        ktime_ns: 99 * SECOND,
        target: target.clone(),
        sender: Some(sender.clone()),
        signal: number,
        by_kernel: false,
    })
}

#[test]
fn a_signal_from_another_process_is_a_kill_and_names_it() {
    let (victim, killer) = (process(7, "api"), process(9, "kill"));
    let ends = [Event::SocketEnd(accepted(dying(7, "api", signalled(9)))), Event::SocketEnd(leg())];
    let mut events = vec![signal(&victim, &killer, 9)];
    events.extend(ends);
    let verdict = play(false, events).remove(0);
    assert_eq!(verdict.cause, Cause::ProcessKilled);
    assert_eq!(verdict.culprit.and_then(|c| c.killed_by).map(|k| k.tgid), Some(9));
}

#[test]
fn a_signal_that_it_sent_itself_is_a_crash() {
    let victim = process(7, "api");
    let mut events = vec![signal(&victim, &victim, 6)];
    events.extend([Event::SocketEnd(accepted(dying(7, "api", signalled(6)))), Event::SocketEnd(leg())]);
    assert_eq!(play(false, events).remove(0).cause, Cause::ProcessCrashed);
}

#[test]
fn resets_are_told_apart_by_what_the_other_end_did() {
    let reset = |other: SocketEnd| one(&[SocketEnd { new_state: TcpState::Close, ..other }, reset_leg()]);
    let alive = || accepted(process(7, "api"));
    let cases = [
        (reset(SocketEnd { unread: 97, ..alive() }), Cause::ClosedUnreadData),
        (reset(SocketEnd { linger0: true, ..alive() }), Cause::ResetWithoutResponse),
        (reset(SocketEnd { no_socket: true, shutdown: 0, ..alive() }), Cause::NeverAccepted),
        (reset(SocketEnd { unread: 8, ..accepted(dying(7, "api", signalled(9))) }), Cause::ProcessCrashed),
    ];
    for (verdict, cause) in cases {
        check(&verdict, By::Upstream, cause, Impact::RequestLost, Confidence::Proven);
    }
    let alone = one(&[reset_leg()]);
    check(&alone, By::Upstream, Cause::ResetWithoutResponse, Impact::RequestLost, Confidence::Inferred);
    assert!(alone.alternatives.contains(&Cause::MiddleboxReset));
}

#[test]
fn a_reset_right_after_data_cuts_a_response_short_and_long_after_it_harms_nobody() {
    let answered =
        SocketEnd { pending: false, bytes_received: 141, exchanges: 1, lrcv_age: 2, ..reset_leg() };
    let short = one(std::slice::from_ref(&answered));
    check(&short, By::Upstream, Cause::ResetMidResponse, Impact::ResponseTruncated, Confidence::Inferred);
    let idle = one(&[SocketEnd { lrcv_age: 1000, lsnd_age: 1000, ..answered.clone() }]);
    check(&idle, By::Upstream, Cause::IdleClose, Impact::None, Confidence::Proven);
    let unread =
        SocketEnd { unread: 3, bytes_sent: 141, new_state: TcpState::Close, ..accepted(process(7, "api")) };
    assert_eq!(one(&[unread, answered]).impact, Impact::Unknown);
}

#[test]
fn a_control_frame_after_an_answer_is_hardly_a_request() {
    let ping = SocketEnd { exchanges: 3, written_since_read: Some(17), ..leg() };
    let verdict = one(std::slice::from_ref(&ping));
    check(&verdict, By::Upstream, Cause::ClosedWithoutResponse, Impact::Unknown, Confidence::Inferred);
    assert!(verdict.is_news(), "the peer ended it");
    let request = one(&[SocketEnd { written_since_read: Some(97), ..ping.clone() }]);
    assert_eq!(request.impact, Impact::RequestLost);
    let first = one(&[SocketEnd { exchanges: 0, ..ping }]);
    assert_eq!(first.impact, Impact::RequestLost);
}

#[test]
fn an_owner_is_known_by_the_ports_of_its_parent() {
    let worker = Process { parent_tgid: 500, ..process(812, "nginx") };
    let lost = SocketEnd { owner: Some(worker), ..leg() };
    let verdict =
        play(false, vec![listener(true, 1, process(500, "nginx")), Event::SocketEnd(lost)]).remove(0);
    assert_eq!(verdict.owner_listens, vec![80]);
}

#[test]
fn an_exit_after_the_close_explains_nothing() {
    let other = SocketEnd { linger0: true, new_state: TcpState::Close, ..accepted(process(7, "api")) };
    let answered =
        SocketEnd { pending: false, bytes_received: 141, exchanges: 1, lrcv_age: 2, ..reset_leg() };
    let later = ProcessExit { ktime_ns: 100 * SECOND + 1000, process: dying(7, "api", signalled(9)) };
    let events = vec![Event::SocketEnd(other), Event::SocketEnd(answered), Event::ProcessExit(later)];
    let verdict = play(false, events).remove(0);
    assert_eq!((verdict.cause, verdict.culprit.and_then(|c| c.exit)), (Cause::ResetMidResponse, None));
}

#[test]
fn an_idle_close_that_crossed_the_request_is_a_race() {
    let crossed = SocketEnd { exchanges: 2, unacked: 97, lsnd_age: 0, lrcv_age: 1250, ..leg() };
    let verdict = one(std::slice::from_ref(&crossed));
    check(&verdict, By::Upstream, Cause::KeepaliveRace, Impact::RequestLost, Confidence::Proven);
    assert!(verdict.summary.contains("5.000 s after its last data"), "{}", verdict.summary);
    // The first request on a connection cannot cross an idle close.
    assert_eq!(one(&[SocketEnd { exchanges: 0, ..crossed }]).cause, Cause::ClosedWithoutResponse);
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

/// The client's leg at the gateway of [`closed_leg`], left 1 ms before it was closed.
fn client_leg() -> SocketEnd {
    SocketEnd {
        ktime_ns: 100 * SECOND - 1_000_000,
        skaddr: 0xc,
        role: Role::Server,
        tuple: Tuple { local: address("10.0.0.1:8080"), peer: address("192.0.2.9:5000"), netns: 1 },
        new_state: TcpState::CloseWait,
        owner: None,
        actor: None,
        unanswered: true,
        write_seq: 1,
        rcv_nxt: 2,
        ..leg()
    }
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

/// A connect that failed with `sk_err`.
fn failed_connect(sk_err: u32) -> SocketEnd {
    SocketEnd {
        old_state: TcpState::SynSent,
        new_state: TcpState::Close,
        sk_err,
        pending: false,
        bytes_sent: 0,
        ..leg()
    }
}

#[test]
fn failed_connects_are_told_apart() {
    let refused = SocketEnd { rst_received: true, ..failed_connect(111) };
    let silent = SocketEnd { retransmits: 2, ..failed_connect(0) };
    let no_port =
        SocketEnd { tuple: Tuple { local: address("0.0.0.0:0"), ..leg().tuple }, ..failed_connect(0) };
    let cases = [
        (refused, By::Upstream, Cause::NoListener, How::RstReceived),
        (failed_connect(111), By::Firewall, Cause::FirewallRejected, How::Icmp),
        (failed_connect(113), By::Network, Cause::HostUnreachable, How::Icmp),
        (failed_connect(110), By::Network, Cause::ConnectTimeout, How::Timeout),
        (silent, By::Network, Cause::ConnectTimeout, How::Timeout),
        (failed_connect(0), By::Gateway, Cause::GatewayConnectTimeout, How::ConnectError),
        (no_port, By::Gateway, Cause::GatewayResource, How::ConnectError),
    ];
    for (end, by, cause, how) in cases {
        let verdict = one(&[end]);
        assert_eq!((verdict.by, verdict.cause, verdict.how), (by, cause, how), "{verdict:#?}");
        assert_eq!(verdict.impact, Impact::ConnectFailed);
    }
}

fn listener(listening: bool, ktime_ns: u64, actor: Process) -> Event {
    Event::Listener(ListenerChange {
        ktime_ns,
        skaddr: 0xd,
        address: address("0.0.0.0:80"),
        netns: 2,
        listening,
        actor: Some(actor),
        backlog: 0,
        backlog_limit: 128,
    })
}

#[test]
fn a_refusal_names_who_listened_last_and_how_it_ended() {
    let exit = Exit { code: Some(2), signal: None, oom: false };
    let gone = process(991, "api");
    let refused = SocketEnd { rst_received: true, refused_in_netns: Some(2), ..failed_connect(111) };
    let events = vec![
        listener(true, 10 * SECOND, gone.clone()),
        listener(false, 96 * SECOND, gone),
        Event::ProcessExit(ProcessExit { ktime_ns: 97 * SECOND, process: dying(991, "api", exit) }),
        Event::SocketEnd(refused.clone()),
    ];
    let verdict = play(false, events).remove(0);
    check(&verdict, By::Upstream, Cause::NoListener, Impact::ConnectFailed, Confidence::Proven);
    assert_eq!(verdict.culprit.and_then(|c| c.exit), Some(exit));
    assert_eq!(verdict.summary, "nothing listens on 10.0.0.2:80; 4.000 s ago api[991] did (exit code 2)");
    let never = one(&[refused]);
    assert_eq!((never.confidence, never.culprit), (Confidence::Proven, None));
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
fn from_the_gateway_alone_nothing_is_proven() {
    for end in [leg(), reset_leg(), closed_leg(), SocketEnd { rst_received: true, ..failed_connect(111) }] {
        let verdict = play(true, vec![Event::SocketEnd(end)]).remove(0);
        assert_eq!(verdict.confidence, Confidence::Inferred, "{verdict:#?}");
    }
}

#[test]
fn an_accepted_end_alone_speaks_for_its_remote_client() {
    let verdict = one(&[accepted(dying(7, "api", signalled(11)))]);
    check(&verdict, By::Upstream, Cause::ProcessCrashed, Impact::RequestLost, Confidence::Proven);
    assert_eq!((verdict.upstream(), verdict.listener()), (None, Some(address("10.0.0.2:80"))));
    assert!(verdict.is_news());
    let left = SocketEnd { new_state: TcpState::CloseWait, actor: None, ..accepted(process(7, "api")) };
    assert_eq!(play(false, vec![Event::SocketEnd(left)]), vec![]);
}

#[test]
fn each_rule_has_a_name_of_its_own() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
}

prop_compose! {
    fn any_end()(
        states in (0_u8..13, 0_u8..13),
        flags in any::<[bool; 8]>(),
        numbers in any::<[u32; 6]>(),
        sk_err in prop::sample::select(vec![0_u32, 32, 99, 101, 103, 104, 110, 111, 113]),
        server in any::<bool>(),
    ) -> SocketEnd {
        SocketEnd {
            role: if server { Role::Server } else { Role::Client },
            old_state: TcpState::from(states.0),
            new_state: TcpState::from(states.1),
            sk_err,
            rst_received: flags[0],
            pending: flags[1],
            unanswered: flags[2],
            linger0: flags[3],
            no_socket: flags[4],
            actor: flags[5].then(|| process(812, "nginx")),
            marked: flags[6],
            owner_accepts: flags[7],
            unread: numbers[0],
            unacked: numbers[1],
            lsnd_age: numbers[2],
            lrcv_age: numbers[3],
            retransmits: numbers[4],
            bytes_sent: numbers[5].into(),
            ..leg()
        }
    }
}

proptest! {
    #[test]
    fn every_ended_connection_of_a_client_gets_one_verdict_with_words(
        ends in proptest::collection::vec(any_end(), 1..4),
        vantage in any::<bool>(),
    ) {
        let clients = ends.iter().filter(|e| e.role == Role::Client).count();
        let verdicts = play(vantage, ends.into_iter().map(Event::SocketEnd).collect());
        prop_assert_eq!(verdicts.iter().filter(|v| v.role == Role::Client).count(), clients);
        for verdict in verdicts {
            prop_assert!(!verdict.summary.is_empty() && !verdict.evidence.is_empty());
            prop_assert!(!vantage || verdict.confidence == Confidence::Inferred);
        }
    }
}
