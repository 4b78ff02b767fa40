use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const REFUSED: u8 = 5;
const ECONNREFUSED: u32 = 111;

/// A query at `ms`, on socket 1.
fn asked(ms: u64, name: &str, query_type: QueryType, id: u16) -> DnsQuery {
    DnsQuery {
        ktime_ns: ms * MS,
        cookie: 1,
        id,
        owner: Process {
            tgid: 812,
            parent_tgid: 1,
            parent_start_boottime: 0,
            start_boottime: 5,
            comm: "nginx".into(),
            cgroup_id: 0,
            netns: 1,
            exit: None,
            kernel_thread: false,
        },
        owner_accepts: true,
        thread: 812,
        local: "10.0.0.2:40000".parse().expect("an address"),
        resolver: "10.0.0.53:53".parse().expect("an address"),
        netns: 1,
        name: name.into(),
        query_type,
        errno: 0,
    }
}

fn answer(ms: u64, id: u16, code: u8, answers: u16) -> DnsAnswer {
    let reply = Reply::Message { id, code, truncated: false, answers };
    DnsAnswer { ktime_ns: ms * MS, cookie: 1, reply }
}

/// Everything that is told of up to `ms`, by name and outcome.
fn told(lookups: &mut Lookups, ms: u64) -> Vec<(String, Outcome, bool)> {
    std::iter::from_fn(|| lookups.settled(ms * MS))
        .map(|l| (l.name().to_owned(), l.decisive().outcome, l.repeated))
        .collect()
}

fn nxdomain(name: &str) -> (String, Outcome, bool) {
    (name.to_owned(), Outcome::Code(NXDOMAIN), false)
}

#[test]
fn two_types_that_do_not_exist_are_one_failure() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.asked(asked(0, "api.internal", QueryType::Aaaa, 2));
    lookups.answered(&answer(3, 1, NXDOMAIN, 0));
    assert_eq!(told(&mut lookups, 1000), vec![], "the other is not answered yet");
    lookups.answered(&answer(4, 2, NXDOMAIN, 0));
    assert_eq!(lookups.next_due(), Some(204 * MS));
    assert_eq!(told(&mut lookups, 204), vec![nxdomain("api.internal")]);
    assert_eq!(lookups.next_due(), None);
}

#[test]
fn one_type_with_data_is_enough() {
    for (first, second) in [((1, 0, 1), (2, 0, 0)), ((1, 0, 0), (2, 0, 1)), ((1, NXDOMAIN, 0), (2, 0, 1))] {
        let mut lookups = Lookups::default();
        lookups.asked(asked(0, "api.internal", QueryType::A, 1));
        lookups.asked(asked(0, "api.internal", QueryType::Aaaa, 2));
        for (id, code, answers) in [first, second] {
            lookups.answered(&answer(5, id, code, answers));
        }
        assert_eq!(told(&mut lookups, 60_000), vec![]);
    }
}

#[test]
fn a_name_without_any_address_has_failed() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.asked(asked(0, "api.internal", QueryType::Aaaa, 2));
    lookups.answered(&answer(1, 1, 0, 0));
    lookups.answered(&answer(1, 2, 0, 0));
    assert_eq!(told(&mut lookups, 300), vec![("api.internal".into(), Outcome::NoData, false)]);
}

#[test]
fn an_answer_that_was_cut_short_is_an_answer() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    let reply = Reply::Message { id: 1, code: 0, truncated: true, answers: 0 };
    lookups.answered(&DnsAnswer { ktime_ns: MS, cookie: 1, reply });
    assert_eq!(told(&mut lookups, 60_000), vec![]);
}

#[test]
fn silence_is_told_once_the_query_was_asked_again_in_vain() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.asked(asked(5000, "api.internal", QueryType::A, 1));
    assert_eq!(told(&mut lookups, 6499), vec![]);
    let lookup = lookups.settled(6500 * MS).expect("silence is over");
    assert_eq!((lookup.decisive().outcome, lookup.decisive().sent), (Outcome::Silence, 2));
    assert_eq!(lookup.failed_ns(), PATIENCE_NS);
}

#[test]
fn a_lost_datagram_is_no_failure() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.asked(asked(5900, "api.internal", QueryType::A, 1));
    lookups.answered(&answer(5950, 1, 0, 1));
    assert_eq!(told(&mut lookups, 60_000), vec![]);
}

#[test]
fn a_closed_port_is_told_unless_another_resolver_answers() {
    let error = DnsAnswer { ktime_ns: MS, cookie: 1, reply: Reply::Errno(ECONNREFUSED) };
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.answered(&error);
    assert_eq!(told(&mut lookups, 7000), vec![("api.internal".into(), Outcome::Errno(ECONNREFUSED), false)]);

    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.answered(&error);
    lookups.asked(DnsQuery { cookie: 2, ..asked(2, "api.internal", QueryType::A, 1) });
    lookups.answered(&DnsAnswer { cookie: 2, ..answer(4, 1, 0, 2) });
    assert_eq!(told(&mut lookups, 60_000), vec![]);
}

#[test]
fn a_send_that_fails_has_the_error_of_what_was_sent_before() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.asked(DnsQuery { errno: ECONNREFUSED, ..asked(0, "api.internal", QueryType::Aaaa, 2) });
    let lookup = lookups.settled(7 * SECOND).expect("it failed");
    let outcomes: Vec<_> = lookup.queries.iter().map(|query| query.outcome).collect();
    assert_eq!(outcomes, [Outcome::Errno(ECONNREFUSED); 2]);
}

#[test]
fn the_next_resolver_may_know_better() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.answered(&answer(1, 1, REFUSED, 0));
    lookups.asked(DnsQuery { cookie: 2, ..asked(2, "api.internal", QueryType::A, 1) });
    assert_eq!(told(&mut lookups, 1000), vec![], "it is asked");
    lookups.answered(&DnsAnswer { cookie: 2, ..answer(1001, 1, NXDOMAIN, 0) });
    assert_eq!(told(&mut lookups, 1300), vec![nxdomain("api.internal")]);
}

#[test]
fn only_the_end_of_a_search_list_counts() {
    let mut lookups = Lookups::default();
    for (at, id, name) in [(0, 1, "api.shop.svc"), (150, 2, "api.svc")] {
        lookups.asked(asked(at, name, QueryType::A, id));
        lookups.answered(&answer(at + 5, id, NXDOMAIN, 0));
    }
    let mut middle = lookups.clone();
    lookups.asked(asked(300, "api", QueryType::A, 3));
    let mut failing = lookups.clone();
    lookups.answered(&answer(800, 3, 0, 1));
    assert_eq!(told(&mut lookups, 60_000), vec![], "the last one exists");
    failing.answered(&answer(800, 3, NXDOMAIN, 0));
    assert_eq!(told(&mut failing, 60_000), vec![nxdomain("api")]);
    middle.asked(asked(160, "api.svc", QueryType::Aaaa, 4));
    middle.answered(&answer(165, 4, 0, 1));
    assert_eq!(told(&mut middle, 60_000), vec![], "the second one exists");
}

#[test]
fn domains_of_a_search_list_need_not_lie_inside_each_other() {
    let candidates = |second: DnsQuery| {
        let mut lookups = Lookups::default();
        lookups.asked(asked(0, "api.corp.example", QueryType::A, 1));
        lookups.answered(&answer(5, 1, NXDOMAIN, 0));
        lookups.asked(second.clone());
        lookups.answered(&DnsAnswer { cookie: second.cookie, ..answer(15, second.id, 0, 1) });
        told(&mut lookups, 60_000)
    };
    let second = asked(10, "api.lab.example", QueryType::A, 2);
    assert_eq!(candidates(DnsQuery { cookie: 2, ..second.clone() }), vec![], "a socket of its own, and soon");
    let failed = vec![nxdomain("api.corp.example")];
    assert_eq!(candidates(second.clone()), failed, "the socket of all that a gateway asks");
    assert_eq!(candidates(DnsQuery { cookie: 2, ktime_ns: 90 * MS, ..second.clone() }), failed, "later");
    assert_eq!(candidates(DnsQuery { cookie: 2, thread: 813, ..second }), failed, "another thread");
}

#[test]
fn names_that_only_begin_alike_are_two_failures() {
    let mut lookups = Lookups::default();
    for (n, name) in (0_u16..).zip(["api.one", "api.two", "web.one"]) {
        let cookie = 1 + u64::from(n);
        lookups.asked(DnsQuery { cookie, ..asked(2 * cookie, name, QueryType::A, n) });
        lookups.answered(&DnsAnswer { cookie, ..answer(2 * cookie + 1, n, NXDOMAIN, 0) });
    }
    let mut names = told(&mut lookups, 1000);
    names.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(names, ["api.one", "api.two", "web.one"].map(nxdomain));
}

#[test]
fn what_goes_on_failing_alike_is_told_every_thirty_seconds() {
    let mut lookups = Lookups::default();
    let mut repeated = Vec::new();
    for n in 0..5_u16 {
        let at = u64::from(n) * 10_000;
        lookups.asked(asked(at, "api.internal", QueryType::A, n));
        lookups.answered(&answer(at + 1, n, NXDOMAIN, 0));
        repeated.extend(told(&mut lookups, at + 300).into_iter().map(|(.., repeated)| repeated));
    }
    assert_eq!(repeated, [false, true, true, false, true]);
}

#[test]
fn another_outcome_and_a_failure_after_an_answer_are_news() {
    let mut lookups = Lookups::default();
    let mut repeated = Vec::new();
    for (n, code, answers) in [(1_u16, NXDOMAIN, 0), (2, REFUSED, 0), (3, 0, 1), (4, REFUSED, 0)] {
        let at = u64::from(n) * 1000;
        lookups.asked(asked(at, "api.internal", QueryType::A, n));
        lookups.answered(&answer(at + 1, n, code, answers));
        repeated.extend(told(&mut lookups, at + 300).into_iter().map(|(.., repeated)| repeated));
    }
    assert_eq!(repeated, [false, false, false]);
}

#[test]
fn other_types_and_answers_to_nothing_are_passed_over() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "1.0.0.10.in-addr.arpa", QueryType::Other(12), 1));
    lookups.answered(&answer(1, 1, NXDOMAIN, 0));
    lookups.answered(&DnsAnswer { ktime_ns: MS, cookie: 9, reply: Reply::Errno(ECONNREFUSED) });
    assert_eq!((told(&mut lookups, 60_000), lookups.next_due()), (vec![], None));
}

#[test]
fn what_a_process_waited_for_goes_with_it() {
    let mut lookups = Lookups::default();
    lookups.asked(asked(0, "api.internal", QueryType::A, 1));
    lookups.asked(asked(0, "gone.internal", QueryType::A, 2));
    lookups.answered(&answer(1, 2, NXDOMAIN, 0));
    let other = Process { tgid: 900, ..asked(0, "", QueryType::A, 0).owner };
    lookups.asked(DnsQuery { cookie: 2, owner: other, ..asked(0, "api.internal", QueryType::A, 1) });
    lookups.exited(&asked(0, "", QueryType::A, 0).owner);
    let failed = [nxdomain("gone.internal"), ("api.internal".into(), Outcome::Silence, false)];
    assert_eq!(told(&mut lookups, 60_000), failed);
}

#[test]
fn a_full_table_gives_up_the_oldest_and_counts_it() {
    let mut lookups = Lookups::default();
    for n in 0..2000_u16 {
        lookups.asked(asked(0, &format!("host{n}.internal"), QueryType::A, n));
    }
    let fill = lookups.fills()[0];
    assert_eq!((fill.entries, fill.evicted), (CAPACITY, 2000 - CAPACITY as u64));
    assert_eq!(lookups.settled(60 * SECOND).map(|l| l.name().to_owned()), Some("host976.internal".into()));
}
