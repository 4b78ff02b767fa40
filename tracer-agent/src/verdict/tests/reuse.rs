//! What is used again, or moves: a listener that another process holds now, a pid, a network namespace's number.

use super::*;
use crate::event::Existing;
use crate::table::Fill;

/// When [`silence`] is looked into.
const LOOKED: u64 = 100 * SECOND + 50_000_000;

fn ended(ktime_ns: u64, process: &Process) -> Event {
    let exit = Some(Exit { code: Some(0), signal: None, oom: false });
    Event::ProcessExit(ProcessExit { ktime_ns, process: Process { exit, ..process.clone() } })
}

/// The kernel was asked, and says that `process` holds the full listener of [`listener`].
fn looked(ktime_ns: u64, process: &Process) -> Event {
    let tuple = Tuple { local: address("0.0.0.0:80"), peer: address("0.0.0.0:0"), netns: 2 };
    Event::Existing(Existing {
        ktime_ns,
        skaddr: 0xd,
        tuple,
        netns_cookie: 0,
        state: TcpState::Listen,
        role: Some(Role::Server),
        process: process.clone(),
        backlog: 200,
        backlog_limit: 128,
    })
}

/// SYNs went unanswered.
fn silence() -> Event {
    Event::SocketEnd(SocketEnd { retransmits: 2, ..failed_connect(0) })
}

fn refused() -> Event {
    Event::SocketEnd(SocketEnd { rst_received: true, refused_in_netns: Some(2), ..failed_connect(111) })
}

fn fill(tables: &Tables, name: &str) -> Fill {
    tables.fills().into_iter().find(|fill| fill.table == name).expect("a table of that name")
}

#[test]
fn a_full_queue_is_the_doing_of_who_holds_it_now() {
    let master = process(500, "api");
    let worker = child_of(&master, 501, "api");
    let heir = process(900, "heir");
    let at = |n: u64| 90 * SECOND + n;
    let worker_died = vec![
        listener(true, SECOND, master.clone()),
        looked(at(1), &master),
        looked(at(2), &worker),
        ended(at(3), &worker),
        silence(),
        looked(LOOKED, &master),
    ];
    let passed_on = vec![
        listener(true, SECOND, heir.clone()),
        looked(at(1), &heir),
        looked(at(2), &master),
        silence(),
        looked(LOOKED, &heir),
    ];
    for (events, holder) in [(worker_died, master.clone()), (passed_on, heir)] {
        let verdict = play(false, events).remove(0);
        assert_eq!(verdict.cause, Cause::AcceptQueueFull);
        assert_eq!(verdict.culprit.map(|culprit| culprit.process), Some(holder));
    }
    let nobody_known = vec![listener(true, SECOND, worker.clone()), ended(at(3), &worker), silence()];
    let mut tables = tables(false);
    for event in nobody_known {
        tables.apply(event);
    }
    assert!(
        tables.listeners().is_held_by(address("10.0.0.2:80"), 2, &worker),
        "its last connections end yet"
    );
}

#[test]
fn workers_that_are_gone_leave_their_places_and_those_that_find_none_are_counted() {
    let mut tables = tables(false);
    let worker = |n: u32| process(1000 + n, "api");
    for n in 0..1000 {
        tables.apply(looked(SECOND + u64::from(n), &worker(n)));
        tables.apply(ended(SECOND + u64::from(n), &worker(n)));
    }
    assert_eq!(fill(&tables, "listener_holders").evicted, 0);
    let now = 100 * SECOND - 1;
    for n in 1000..1300 {
        tables.apply(looked(now, &worker(n)));
    }
    let holders = fill(&tables, "listener_holders");
    assert_eq!((holders.entries, holders.evicted), (holders.capacity, 300 - holders.capacity as u64));
}

#[test]
fn sockets_and_addresses_are_bounded_and_counted() {
    let mut tables = tables(false);
    for n in 0..2000 {
        let Event::Listener(change) = listener(true, SECOND, process(500, "api")) else { unreachable!() };
        let address = SocketAddr::new(change.address.ip(), 1000 + n);
        tables.apply(Event::Listener(ListenerChange { skaddr: n.into(), ..change.clone() }));
        tables.apply(Event::Listener(ListenerChange { address, ..change }));
    }
    for table in ["listener_sockets", "listener_addresses"] {
        let fill = fill(&tables, table);
        assert_eq!(fill.entries, fill.capacity, "{table}");
        assert!(fill.evicted > 900, "{fill:?}");
    }
}

#[test]
fn a_listener_that_stays_is_not_forgotten_after_a_day() {
    let mut tables = tables(false);
    let master = process(500, "nginx");
    tables.apply(listener(true, SECOND, master.clone()));
    let Event::Listener(other) = listener(true, SECOND, process(501, "gone")) else { unreachable!() };
    tables.apply(Event::Listener(ListenerChange { skaddr: 0xe, ..other }));
    tables.apply(ended(2 * SECOND, &process(501, "gone")));
    for hour in 1..60 {
        tables.expire(hour * 3600 * SECOND);
    }
    assert!(tables.listeners().is_held_by(address("10.0.0.2:80"), 2, &master));
    assert_eq!(tables.listeners().ports_of(&child_of(&master, 502, "nginx")), [80]);
    assert_eq!(tables.listeners().ports_of(&process(501, "gone")), [0; 0]);
}

#[test]
fn who_closed_for_others_did_not_listen() {
    let api = process(991, "api");
    let kernel = Process { kernel_thread: true, ..process(7, "kworker/u8:1") };
    let events = vec![
        listener(true, 10 * SECOND, api.clone()),
        ended(96 * SECOND, &api),
        listener(false, 96 * SECOND, kernel),
        refused(),
    ];
    let culprit = play(false, events).remove(0).culprit.expect("who listened last");
    assert_eq!(culprit.process.tgid, 991);
}

/// A process that gets the pid 500 after `api` has ended.
fn again() -> Process {
    Process { start_boottime: 50 * SECOND, ..process(500, "bash") }
}

#[test]
fn a_pid_that_is_used_again_is_no_parent_of_a_worker() {
    let api = process(500, "api");
    let launcher = child_of(&again(), 700, "launcher");
    let victim = child_of(&launcher, 701, "server");
    let ends = |killer: &Process| {
        let dying = Process { exit: Some(signalled(9)), ..victim.clone() };
        let accepted = SocketEnd { ktime_ns: 99 * SECOND + 1000, ..accepted(dying) };
        let leg = SocketEnd { ktime_ns: 99 * SECOND + 2000, ..leg() };
        vec![signal(&victim, killer, 9), Event::SocketEnd(accepted), Event::SocketEnd(leg)]
    };
    let mut events = vec![listener(true, SECOND, api.clone()), ended(40 * SECOND, &api)];
    events.extend(ends(&launcher));
    let killed = play(false, events).remove(0);
    assert_eq!(killed.cause, Cause::ProcessKilled, "{}", killed.summary);
    let mut events = vec![listener(true, SECOND, again())];
    events.extend(ends(&launcher));
    assert_eq!(play(false, events).remove(0).cause, Cause::WorkerTimeout);
}

#[test]
fn an_order_to_who_had_the_pid_before_is_none_to_the_parent() {
    let before = process(500, "api");
    let worker = child_of(&again(), 701, "server");
    // It was started before that order, as children of a daemon are that inherits them.
    let worker = Process { start_boottime: 10 * SECOND, ..worker };
    let Event::Signal(order) = signal(&before, &process(9, "sh"), 15) else { unreachable!() };
    let order = SignalSent { ktime_ns: 45 * SECOND, ..order };
    let exit = Exit { code: Some(1), signal: None, oom: false };
    let dying = Process { exit: Some(exit), ..worker };
    let events = vec![
        Event::Signal(order),
        ended(46 * SECOND, &before),
        Event::SocketEnd(accepted(dying)),
        Event::SocketEnd(leg()),
    ];
    assert_eq!(play(false, events).remove(0).cause, Cause::ProcessExited);
}

#[test]
fn the_ports_of_who_had_the_pid_before_are_not_those_of_the_parent() {
    let worker = child_of(&again(), 812, "worker");
    let lost = SocketEnd { owner: Some(worker), ..leg() };
    let events = vec![listener(true, 1, process(500, "nginx")), Event::SocketEnd(lost)];
    assert_eq!(play(false, events).remove(0).owner_listens, [0; 0]);
}

/// The same in the network namespace with this cookie.
fn in_namespace(cookie: u64, event: Event) -> Event {
    match event {
        Event::Listener(change) => Event::Listener(ListenerChange { netns_cookie: cookie, ..change }),
        Event::SocketEnd(end) => Event::SocketEnd(SocketEnd { refused_in_cookie: cookie, ..end }),
        other => other,
    }
}

#[test]
fn who_listened_in_a_namespace_that_is_gone_explains_nothing_in_the_next_of_its_number() {
    let api = process(991, "api");
    let told = |cookie| {
        let events = vec![
            in_namespace(7, listener(true, 10 * SECOND, api.clone())),
            in_namespace(7, listener(false, 96 * SECOND, api.clone())),
            in_namespace(cookie, refused()),
        ];
        let verdict = play(false, events).remove(0);
        check(&verdict, By::Upstream, Cause::NoListener, Impact::ConnectFailed, Confidence::Proven);
        verdict.culprit.map(|culprit| culprit.process.tgid)
    };
    assert_eq!((told(7), told(8)), (Some(991), None));
    // A recording in which cookies were not noted yet.
    assert_eq!(told(0), Some(991));
}

#[test]
fn ages_that_were_learned_in_a_namespace_end_with_it() {
    let told = |last: u64| {
        let ends = [(7, 1), (7, 2), (last, 3)].map(|(netns_cookie, n)| {
            let mut end = SocketEnd { ktime_ns: (100 + 10 * n) * SECOND, netns_cookie, cookie: n, ..leg() };
            (end.lsnd_age, end.lrcv_age, end.slowest_answer) = (1000, 1000, 300);
            end.tuple.local.set_port(40_000 + n as u16);
            Event::SocketEnd(end)
        });
        let mut tables = tables(true);
        let mut causes = Vec::new();
        for event in ends {
            let due = event.ktime_ns() + SETTLE_NS;
            tables.apply(event);
            while let Some(ended) = tables.settled(due) {
                causes.extend(of(&tables, &ended).map(|verdict| verdict.cause));
            }
        }
        causes.pop()
    };
    assert_eq!(told(7), Some(Cause::UpstreamTimeout));
    assert_ne!(told(8), Some(Cause::UpstreamTimeout));
}

#[test]
fn ends_of_one_pair_of_addresses_are_bounded_and_counted() {
    let mut tables = tables(false);
    for skaddr in 0..70 {
        tables.apply(Event::SocketEnd(SocketEnd { skaddr, ..accepted(process(42, "api")) }));
    }
    let fills = tables.fills();
    let pair = fills.iter().find(|fill| fill.table == "server_ends_of_a_pair").expect("a fill");
    assert_eq!((pair.entries, pair.capacity, pair.evicted), (64, 64, 6));
    let last = tables.connections().other_end(&leg()).map(|end| end.skaddr);
    assert_eq!(last, Some(6), "the oldest gave way");
}
