//! What became of the process that served: told to go, by whom, and how it ended.

use super::*;
use crate::event::OomVictim;

const GUNICORN: u32 = 50;
/// When the serving end is closed.
const CLOSED: u64 = 1000 * SECOND;

fn code(code: u8) -> Exit {
    Exit { code: Some(code), signal: None, oom: false }
}

fn master() -> Process {
    process(GUNICORN, "gunicorn")
}

/// A child of [`master`], started with it.
fn worker() -> Process {
    child_of(&master(), 60, "worker")
}

fn sent(ktime_ns: u64, target: &Process, sender: &Process, number: u32) -> Event {
    Event::Signal(SignalSent {
        ktime_ns,
        target: target.clone(),
        sender: Some(sender.clone()),
        signal: number,
        by_kernel: false,
    })
}

/// The connection of [`leg`], closed by `server` at [`CLOSED`].
fn ends(server: Process) -> Vec<Event> {
    let accepted = SocketEnd { ktime_ns: CLOSED, ..accepted(server) };
    let leg = SocketEnd { ktime_ns: CLOSED + 1000, ..leg() };
    vec![Event::SocketEnd(accepted), Event::SocketEnd(leg)]
}

/// Signals, then the end that `exit` made of the worker's connection (None: it closed it alive).
fn verdict_after(mut events: Vec<Event>, worker: Process, exit: Option<Exit>) -> Verdict {
    events.extend(ends(Process { exit, ..worker }));
    let mut verdicts = play(false, events);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

fn cause_after(events: Vec<Event>, exit: Option<Exit>) -> Cause {
    verdict_after(events, worker(), exit).cause
}

fn serving() -> Event {
    listener(true, SECOND, master())
}

#[test]
fn a_parent_that_ends_its_worker_and_serves_on_has_a_limit() {
    for (number, exit, before_ns) in [
        (15, Some(signalled(15)), 3_000_000),
        (6, None, 300_000),
        (6, Some(code(1)), 300_000),
        (9, Some(signalled(9)), 3_000_000),
    ] {
        let events = vec![serving(), sent(CLOSED - before_ns, &worker(), &master(), number)];
        let verdict = verdict_after(events, worker(), exit);
        check(&verdict, By::Upstream, Cause::WorkerTimeout, Impact::RequestLost, Confidence::Proven);
        let culprit = verdict.culprit.expect("a culprit");
        assert_eq!((culprit.process.tgid, culprit.exit), (60, exit));
        assert_eq!(culprit.killed_by.map(|killer| killer.tgid), Some(GUNICORN));
        assert!(verdict.summary.contains("its parent"), "{}", verdict.summary);
    }
}

#[test]
fn a_parent_that_serves_nothing_only_stops_or_kills() {
    let ended = |number: u8| {
        let events = vec![sent(CLOSED - 1_000_000, &worker(), &master(), u32::from(number))];
        cause_after(events, Some(signalled(number)))
    };
    assert_eq!([1, 2, 3, 12, 15].map(ended), [Cause::ServiceStopped; 5]);
    assert_eq!([6, 9, 11].map(ended), [Cause::ProcessKilled; 3]);
    // It has a socket there, and was ended itself before.
    let over = ProcessExit { ktime_ns: CLOSED - 1, process: dying(GUNICORN, "gunicorn", signalled(9)) };
    let events = vec![serving(), sent(CLOSED - 2, &worker(), &master(), 9), Event::ProcessExit(over)];
    assert_eq!(cause_after(events, Some(signalled(9))), Cause::ProcessKilled);
}

#[test]
fn init_holds_sockets_for_others_and_serves_nobody() {
    let systemd = process(1, "systemd");
    let service = process(60, "api");
    let events = vec![listener(true, SECOND, systemd.clone()), sent(CLOSED - 5, &service, &systemd, 15)];
    assert_eq!(verdict_after(events, service, Some(signalled(15))).cause, Cause::ServiceStopped);
}

#[test]
fn a_worker_older_than_the_order_to_its_parent_was_stopped_with_it() {
    let shell = process(9, "sh");
    for order in [1, 2, 3, 12, 15] {
        let events = vec![
            serving(),
            sent(CLOSED - 3 * SECOND, &master(), &shell, order),
            sent(CLOSED - 300_000, &worker(), &master(), 6),
        ];
        let verdict = verdict_after(events, worker(), None);
        check(&verdict, By::Upstream, Cause::ServiceStopped, Impact::RequestLost, Confidence::Proven);
        let who = verdict.culprit.and_then(|c| c.killed_by).map(|killer| killer.tgid);
        assert_eq!(who, Some(GUNICORN));
        assert!(verdict.evidence.iter().any(|fact| fact.contains("of sh[9]")), "{:?}", verdict.evidence);
    }
}

#[test]
fn what_is_no_order_to_the_parent_changes_nothing() {
    let shell = process(9, "sh");
    let timeout = || sent(CLOSED - 300_000, &worker(), &master(), 6);
    let young = Process { start_boottime: CLOSED - SECOND, ..worker() };
    let reload = sent(CLOSED - 3 * SECOND, &master(), &shell, 1);
    let strike = sent(CLOSED - 300_000, &young, &master(), 6);
    let reloaded = verdict_after(vec![serving(), reload, strike], young, None);
    assert_eq!(reloaded.cause, Cause::WorkerTimeout, "it was started after the reload");
    for (sender, number) in [(shell, 13), (master(), 15)] {
        let events = vec![serving(), sent(CLOSED - 3 * SECOND, &master(), &sender, number), timeout()];
        assert_eq!(cause_after(events, None), Cause::WorkerTimeout, "{sender:?} {number}");
    }
    let after = sent(CLOSED - 100, &master(), &process(9, "sh"), 15);
    assert_eq!(cause_after(vec![serving(), timeout(), after], None), Cause::WorkerTimeout);
}

#[test]
fn the_order_and_the_start_of_a_process_are_compared_on_one_clock() {
    let slept_ns = 1000 * SECOND;
    let worker = Process { start_boottime: slept_ns + CLOSED - 50 * SECOND, ..worker() };
    let mut tables = Tables::new(Settings { hz: 250, vantage: false, suspended_ns: slept_ns });
    let dying = Process { exit: Some(signalled(15)), ..worker.clone() };
    for event in [
        serving(),
        sent(CLOSED - 2 * SECOND, &master(), &process(9, "sh"), 1),
        sent(CLOSED - SECOND, &worker, &master(), 15),
    ]
    .into_iter()
    .chain(ends(dying))
    {
        assert!(tables.apply(event).is_none());
    }
    let verdicts: Vec<_> = std::iter::from_fn(|| tables.settled(CLOSED + SECOND)).collect();
    let causes: Vec<_> = verdicts.iter().filter_map(|e| of(&tables, e)).map(|v| v.cause).collect();
    assert_eq!(causes, [Cause::ServiceStopped]);
}

#[test]
fn another_process_stops_with_an_order_and_kills_with_anything_else() {
    let shell = process(9, "sh");
    let ended = |number: u8| {
        cause_after(
            vec![serving(), sent(CLOSED - 9, &worker(), &shell, number.into())],
            Some(signalled(number)),
        )
    };
    assert_eq!([1, 2, 3, 12, 15].map(ended), [Cause::ServiceStopped; 5]);
    assert_eq!([6, 9, 11].map(ended), [Cause::ProcessKilled; 3]);
    let grace = |seconds: u64| {
        let term = sent(CLOSED - seconds * SECOND - 9, &worker(), &shell, 15);
        cause_after(vec![term, sent(CLOSED - 9, &worker(), &shell, 9)], Some(signalled(9)))
    };
    assert_eq!((grace(99), grace(101)), (Cause::ServiceStopped, Cause::ProcessKilled));
    // Only a KILL is how an order is enforced; and who serves beside it is not its parent.
    let term = sent(CLOSED - SECOND, &worker(), &shell, 15);
    let dumped = vec![term, sent(CLOSED - 9, &worker(), &shell, 6)];
    assert_eq!(cause_after(dumped, Some(signalled(6))), Cause::ProcessKilled);
    let sibling = child_of(&master(), 61, "worker");
    let events = vec![serving(), sent(CLOSED - 9, &worker(), &sibling, 9)];
    assert_eq!(cause_after(events, Some(signalled(9))), Cause::ProcessKilled);
}

#[test]
fn who_was_told_to_stop_and_goes_by_itself_was_stopped() {
    let shell = process(9, "sh");
    for exit in [Some(code(0)), Some(code(143)), None] {
        let told = |seconds| vec![sent(CLOSED - seconds * SECOND, &worker(), &shell, 15)];
        let verdict = verdict_after(told(30), worker(), exit);
        check(&verdict, By::Upstream, Cause::ServiceStopped, Impact::RequestLost, Confidence::Proven);
        assert_eq!(verdict.culprit.and_then(|c| c.killed_by).map(|killer| killer.tgid), Some(9));
        assert_ne!(cause_after(told(101), exit), Cause::ServiceStopped, "long ago");
        assert_ne!(cause_after(vec![sent(CLOSED + 9, &worker(), &shell, 15)], exit), Cause::ServiceStopped);
    }
    let itself = sent(CLOSED - SECOND, &worker(), &worker(), 15);
    assert_eq!(cause_after(vec![itself], Some(code(0))), Cause::ProcessExited);
}

#[test]
fn a_crash_is_a_crash_and_the_oom_killer_comes_first() {
    let shell = process(9, "sh");
    let told = || sent(CLOSED - SECOND, &worker(), &shell, 15);
    assert_eq!(cause_after(vec![told()], Some(signalled(11))), Cause::ProcessCrashed);
    let victim = OomVictim { ktime_ns: CLOSED - 5, process: worker() };
    let killed = sent(CLOSED - 6, &worker(), &shell, 9);
    let events = vec![told(), killed, Event::OomVictim(victim)];
    let verdict = verdict_after(events, worker(), Some(signalled(9)));
    assert_eq!(verdict.cause, Cause::OomKilled);
    assert_eq!(verdict.culprit.and_then(|c| c.killed_by), None);
    // A SEGV that a runtime has recovered from.
    assert_eq!(
        cause_after(vec![sent(CLOSED - 9, &worker(), &worker(), 11)], None),
        Cause::ClosedWithoutResponse
    );
}

#[test]
fn who_raises_a_signal_again_was_ended_by_who_sent_it_first() {
    let shell = process(9, "sh");
    let again = |number, seconds| {
        let first = sent(CLOSED - seconds * SECOND, &worker(), &shell, number);
        cause_after(
            vec![first, sent(CLOSED - 9, &worker(), &worker(), number)],
            Some(signalled(number as u8)),
        )
    };
    assert_eq!((again(15, 2), again(6, 2)), (Cause::ServiceStopped, Cause::ProcessKilled));
    assert_eq!(again(6, 101), Cause::ProcessCrashed, "long ago");
}

#[test]
fn the_first_process_of_a_container_takes_the_others_along() {
    let init = dying(40, "init", signalled(9));
    let zap = |by_kernel_for: &Process| {
        Event::Signal(SignalSent {
            ktime_ns: CLOSED - 9,
            target: worker(),
            sender: Some(by_kernel_for.clone()),
            signal: 9,
            by_kernel: true,
        })
    };
    assert_eq!(cause_after(vec![zap(&init)], Some(signalled(9))), Cause::ProcessKilled);
    let term = sent(CLOSED - 10 * SECOND, &init, &process(9, "runc"), 15);
    assert_eq!(cause_after(vec![term, zap(&init)], Some(signalled(9))), Cause::ServiceStopped);
    // Who lives is only a bystander of what the kernel does.
    assert_eq!(cause_after(vec![zap(&process(40, "init"))], Some(signalled(9))), Cause::ProcessCrashed);
}

#[test]
fn an_exit_right_after_the_close_is_known() {
    let exit_after = |after_ns: u64, exit: Exit| {
        let exited = ProcessExit { ktime_ns: CLOSED + after_ns, process: dying(60, "worker", exit) };
        let mut events = ends(worker());
        events.push(Event::ProcessExit(exited));
        play(false, events).remove(0)
    };
    let failed = exit_after(50_000_000, code(3));
    check(&failed, By::Upstream, Cause::ProcessExited, Impact::RequestLost, Confidence::Proven);
    assert_eq!(failed.culprit.and_then(|c| c.exit), Some(code(3)));
    let done = exit_after(50_000_000, code(0));
    assert_eq!(done.cause, Cause::ClosedWithoutResponse);
    assert!(done.summary.contains("then ended (exit code 0)"), "{}", done.summary);
    let much_later = exit_after(SETTLE_NS + 1, code(3));
    assert_eq!(much_later.cause, Cause::ClosedWithoutResponse);
    assert!(much_later.summary.contains("had not ended 0.2 s later"), "{}", much_later.summary);
}

#[test]
fn a_remote_client_hears_the_same() {
    let events = vec![serving(), sent(CLOSED - 300_000, &worker(), &master(), 6), ends(worker()).remove(0)];
    let verdict = play(false, events).remove(0);
    check(&verdict, By::Upstream, Cause::WorkerTimeout, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.role, Role::Server);
}

#[test]
fn a_worker_that_exits_when_its_parent_was_told_to_stop_was_stopped_with_it() {
    let told = |order, seconds| sent(CLOSED - seconds * SECOND, &master(), &process(9, "sh"), order);
    let verdict = verdict_after(vec![told(15, 1)], worker(), Some(code(0)));
    check(&verdict, By::Upstream, Cause::ServiceStopped, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.culprit.and_then(|c| c.killed_by), None, "no signal reached it");
    assert!(verdict.summary.contains("SIGTERM of sh[9] to its parent"), "{}", verdict.summary);
    assert_eq!(cause_after(vec![told(15, 101)], Some(code(0))), Cause::ProcessExited, "long ago");
    assert_eq!(cause_after(vec![told(13, 1)], Some(code(0))), Cause::ProcessExited, "no order");
    let young = Process { start_boottime: CLOSED - SECOND / 2, ..worker() };
    assert_eq!(verdict_after(vec![told(1, 1)], young, Some(code(0))).cause, Cause::ProcessExited);
}

#[test]
fn what_the_terminal_sends_is_an_order() {
    let from_terminal = |number| {
        Event::Signal(SignalSent {
            ktime_ns: CLOSED - 9,
            target: worker(),
            sender: Some(process(9, "kworker")),
            signal: number,
            by_kernel: true,
        })
    };
    let verdict = verdict_after(vec![from_terminal(2)], worker(), Some(signalled(2)));
    check(&verdict, By::Upstream, Cause::ServiceStopped, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.culprit.and_then(|c| c.killed_by), None);
    assert_eq!(cause_after(vec![from_terminal(13)], Some(signalled(13))), Cause::ProcessCrashed);
}

#[test]
fn who_sees_the_upstreams_end_alone_has_seen_what_its_process_did() {
    for vantage in [false, true] {
        let end = accepted(dying(7, "api", signalled(11)));
        let verdict = play(vantage, vec![Event::SocketEnd(end)]).remove(0);
        assert_eq!(verdict.role, Role::Server);
        assert_eq!((verdict.cause, verdict.confidence), (Cause::ProcessCrashed, Confidence::Proven));
    }
}

#[test]
fn a_client_that_had_said_goodbye_lost_nothing() {
    let closed = |unread, bytes_sent| {
        let end =
            SocketEnd { unread, bytes_sent, new_state: TcpState::Close, ..accepted(process(7, "nginx")) };
        play(false, vec![Event::SocketEnd(end)]).into_iter().map(|verdict| verdict.cause).collect::<Vec<_>>()
    };
    assert_eq!(closed(24, 705), [], "the close_notify of TLS 1.3");
    for (unread, bytes_sent, what) in [(97, 705, "a request"), (40, 705, "a short one"), (24, 0, "the first")]
    {
        assert_eq!(closed(unread, bytes_sent), [Cause::ClosedUnreadData], "{what}");
    }
}
