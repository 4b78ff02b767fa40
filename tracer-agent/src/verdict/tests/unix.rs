//! Ends of Unix sockets.

use super::*;
use crate::event::{UnixConnection, UnixEnd, UnixHow};
use crate::verdict::unix::RULES;

/// A gateway's connection with a request 1.5 s old, which its server has read.
pub fn connection(server: Option<Process>) -> UnixConnection {
    UnixConnection {
        ino: 77,
        opened_ns: Some(98 * SECOND),
        sent_ns: Some(98 * SECOND + SECOND / 2),
        received_ns: None,
        served_ns: server.as_ref().map(|_| 98 * SECOND + SECOND / 2 + 1000),
        bytes_sent: 312,
        bytes_received: 0,
        owner: Some(process(812, "nginx")),
        server,
        exchanges: 0,
        pending: true,
        preexisting: false,
        server_closed: false,
        owner_accepts: true,
        listener_tgid: Some(4000),
        netns: 1,
        path: "/run/php/php-fpm.sock".into(),
    }
}

fn worker() -> Process {
    process(4242, "php-fpm")
}

fn served() -> UnixConnection {
    connection(Some(worker()))
}

fn end(how: UnixHow, connection: UnixConnection) -> Event {
    Event::UnixEnd(UnixEnd { ktime_ns: 100 * SECOND, connection, how, errno: 0 })
}

fn told(events: Vec<Event>) -> Verdict {
    let mut verdicts = play(false, events);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    let verdict = verdicts.remove(0);
    assert_eq!(
        verdict.upstream.as_ref().map(ToString::to_string).as_deref(),
        Some("unix:/run/php/php-fpm.sock")
    );
    assert!(verdict.peer.is_none() && verdict.local.is_none());
    verdict
}

fn exited(tgid: u32, comm: &str, exit: Exit) -> Event {
    Event::ProcessExit(ProcessExit { ktime_ns: 100 * SECOND - 1000, process: dying(tgid, comm, exit) })
}

#[test]
fn a_server_that_died_is_the_cause() {
    let shell = process(99, "bash");
    let oom = Exit { oom: true, ..signalled(9) };
    let code = Exit { code: Some(3), signal: None, oom: false };
    let cases = [
        (vec![signal(&worker(), &shell, 9)], signalled(9), Cause::ProcessKilled),
        (vec![], signalled(11), Cause::ProcessCrashed),
        (vec![], oom, Cause::OomKilled),
        (vec![], code, Cause::ProcessExited),
    ];
    for (mut events, exit, cause) in cases {
        events.extend([exited(4242, "php-fpm", exit), end(UnixHow::Reset, served())]);
        let verdict = told(events);
        check(&verdict, By::Upstream, cause, Impact::RequestLost, Confidence::Proven);
        assert_eq!(verdict.culprit.and_then(|c| c.exit), Some(exit));
        assert_eq!(verdict.connection.since_request_ms, Some(1500.0));
    }
}

#[test]
fn a_worker_that_its_master_ended_was_too_slow_or_the_service_was_told_to_stop() {
    let shell = process(99, "bash");
    let master = process(4000, "php-fpm");
    let worker = Process { parent_tgid: 4000, parent_start_boottime: master.start_boottime, ..worker() };
    let dead = |number| {
        let process = Process { exit: Some(signalled(number)), ..worker.clone() };
        Event::ProcessExit(ProcessExit { ktime_ns: 100 * SECOND - 1000, process })
    };
    let lost = || end(UnixHow::Reset, connection(Some(worker.clone())));
    // php-fpm's worker raises the signal again in its own handler.
    let by_master = || vec![signal(&worker, &master, 15), signal(&worker, &worker, 15), dead(15), lost()];
    let told_to_stop = |number| {
        let mut events = vec![signal(&master, &shell, number)];
        events.extend(by_master());
        events
    };
    let cases = [
        (by_master(), Cause::WorkerTimeout),
        (told_to_stop(15), Cause::ServiceStopped),
        (told_to_stop(12), Cause::ServiceStopped),
        (vec![signal(&worker, &shell, 15), dead(15), lost()], Cause::ServiceStopped),
        (vec![signal(&worker, &shell, 9), dead(9), lost()], Cause::ProcessKilled),
    ];
    for (events, cause) in cases {
        let verdict = told(events);
        check(&verdict, By::Upstream, cause, Impact::RequestLost, Confidence::Proven);
    }
}

#[test]
fn a_server_that_closed_while_it_lived_is_not_excused_by_its_later_end() {
    let code = Exit { code: Some(0), signal: None, oom: false };
    let closed = UnixConnection { server_closed: true, ..served() };
    let verdict = told(vec![exited(4242, "php-fpm", code), end(UnixHow::EndOfStream, closed)]);
    check(&verdict, By::Upstream, Cause::ClosedWithoutResponse, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn a_gateway_that_gave_up_says_whether_anybody_had_read() {
    let verdict = told(vec![end(UnixHow::Closed, served())]);
    check(&verdict, By::Gateway, Cause::GatewayTimeout, Impact::RequestLost, Confidence::Proven);
    let verdict = told(vec![end(UnixHow::Closed, connection(None))]);
    check(&verdict, By::Gateway, Cause::NeverAccepted, Impact::RequestLost, Confidence::Proven);
    let waits = UnixConnection { served_ns: Some(98 * SECOND), ..served() };
    assert_eq!(told(vec![end(UnixHow::Closed, waits)]).cause, Cause::NeverAccepted);
}

#[test]
fn from_the_gateway_alone_nobody_behind_the_socket_is_claimed() {
    for how in [UnixHow::Closed, UnixHow::Reset, UnixHow::EndOfStream, UnixHow::Broken] {
        let verdict = play(true, vec![end(how, connection(None))]).remove(0);
        assert_eq!((verdict.confidence, &verdict.culprit), (Confidence::Inferred, &None), "{verdict:#?}");
        assert!(!matches!(verdict.cause, Cause::NeverAccepted | Cause::KeepaliveRace), "{verdict:#?}");
        assert!(!verdict.alternatives.is_empty(), "{verdict:#?}");
    }
}

#[test]
fn a_client_that_left_first_is_the_cause() {
    let leg = SocketEnd { lrcv_age: 375, ..client_leg() };
    let verdict = told_with_leg(vec![Event::SocketEnd(leg), end(UnixHow::Closed, served())]);
    assert_eq!((verdict.by, verdict.cause), (By::Client, Cause::ClientGone), "{verdict:#?}");
}

/// The leg of the client gets no verdict of its own.
fn told_with_leg(mut events: Vec<Event>) -> Verdict {
    let mut existing = vec![Event::Listener(ListenerChange {
        ktime_ns: SECOND,
        skaddr: 0xe,
        address: address("0.0.0.0:8080"),
        netns: 1,
        netns_cookie: 0,
        listening: true,
        actor: Some(process(812, "nginx")),
        backlog: 0,
        backlog_limit: 128,
    })];
    existing.append(&mut events);
    let is_unix = |v: &Verdict| matches!(v.upstream, Some(Target::Unix(_)));
    play(false, existing).into_iter().find(is_unix).expect("a verdict on the Unix socket")
}

#[test]
fn a_gateway_that_ended_is_the_cause() {
    let events = vec![exited(812, "nginx", signalled(9)), end(UnixHow::OwnerGone, served())];
    let verdict = told(events);
    check(&verdict, By::Gateway, Cause::GatewayExited, Impact::RequestLost, Confidence::Proven);
    let verdict = told(vec![end(UnixHow::OwnerGone, served())]);
    check(&verdict, By::Gateway, Cause::GatewayClosed, Impact::RequestLost, Confidence::Inferred);
}

#[test]
fn a_listener_that_closed_over_its_backlog_never_accepted() {
    let verdict = told(vec![end(UnixHow::Reset, connection(None))]);
    check(&verdict, By::Upstream, Cause::NeverAccepted, Impact::RequestLost, Confidence::Proven);
}

#[test]
fn an_idle_close_that_crossed_the_request_is_a_race() {
    let kept = UnixConnection { exchanges: 3, served_ns: Some(98 * SECOND), ..served() };
    for how in [UnixHow::EndOfStream, UnixHow::Reset] {
        assert_eq!(told(vec![end(how, kept.clone())]).cause, Cause::KeepaliveRace);
    }
    // The write itself found nobody: nothing is pending yet, and the request is lost all the same.
    let refused = UnixConnection { pending: false, ..kept };
    let verdict = told(vec![end(UnixHow::Broken, UnixConnection { sent_ns: Some(97 * SECOND), ..refused })]);
    assert_eq!(verdict.impact, Impact::RequestLost, "{verdict:#?}");
}

#[test]
fn a_goodbye_before_the_close_is_no_lost_request() {
    let goodbye = UnixConnection { sent_ns: Some(100 * SECOND - 1_000_000), exchanges: 9, ..served() };
    let verdict = told(vec![end(UnixHow::Closed, goodbye)]);
    assert_eq!((verdict.cause, verdict.impact), (Cause::GatewayClosed, Impact::Unknown));
    assert!(!verdict.is_news());
}

#[test]
fn what_owes_nothing_harms_nobody() {
    let answered = UnixConnection { pending: false, exchanges: 1, bytes_received: 500, ..served() };
    let unused = UnixConnection { bytes_sent: 0, sent_ns: None, pending: false, ..connection(None) };
    let cases = [
        (UnixHow::EndOfStream, answered.clone(), By::Upstream, Cause::IdleClose),
        (UnixHow::Closed, answered.clone(), By::Gateway, Cause::IdleClose),
        (
            UnixHow::EndOfStream,
            UnixConnection { received_ns: Some(100 * SECOND - 1), ..answered },
            By::Upstream,
            Cause::Graceful,
        ),
        (UnixHow::Closed, unused, By::Gateway, Cause::Probe),
    ];
    for (how, connection, by, cause) in cases {
        let verdict = told(vec![end(how, connection)]);
        check(&verdict, by, cause, Impact::None, Confidence::Proven);
    }
}

#[test]
fn each_rule_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}
