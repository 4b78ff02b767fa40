//! Names that did not resolve.

use super::*;
use crate::event::{DnsAnswer, DnsQuery, QueryType, Reply, Target};

const RESOLVER: &str = "10.0.0.53:53";

fn query(owner: &Process, owner_accepts: bool) -> DnsQuery {
    DnsQuery {
        ktime_ns: 100 * SECOND,
        cookie: 7,
        id: 1,
        owner: owner.clone(),
        owner_accepts,
        thread: owner.tgid,
        local: address("10.0.0.1:40000"),
        resolver: address(RESOLVER),
        netns: 1,
        name: "api.internal".into(),
        query_type: QueryType::A,
        errno: 0,
    }
}

fn answer(code: u8, answers: u16) -> Reply {
    Reply::Message { id: 1, code, truncated: false, answers }
}

/// What is said of a query of nginx and of what came back on its socket 2 ms later.
fn told(vantage: bool, reply: Option<Reply>) -> Verdict {
    let mut tables = tables(vantage);
    tables.apply(Event::DnsQuery(query(&process(812, "nginx"), true)));
    if let Some(reply) = reply {
        tables.apply(Event::DnsAnswer(DnsAnswer { ktime_ns: 100 * SECOND + 2_000_000, cookie: 7, reply }));
    }
    let ended = tables.settled(110 * SECOND).expect("it failed");
    of(&tables, &ended).expect("a verdict")
}

#[test]
fn an_answer_that_says_no_is_proof_from_wherever_one_looks() {
    for vantage in [false, true] {
        for (reply, word) in [
            (answer(3, 0), "there is no such name"),
            (answer(2, 0), "SERVFAIL"),
            (answer(5, 0), "REFUSED"),
            (answer(0, 0), "without any"),
        ] {
            let verdict = told(vantage, Some(reply));
            check(&verdict, By::Gateway, Cause::DnsFailure, Impact::ConnectFailed, Confidence::Proven);
            assert_eq!(verdict.upstream, Some(Target::Dns("api.internal".into())));
            assert_eq!((verdict.peer, verdict.how), (Some(address(RESOLVER)), How::ConnectError));
            assert!(verdict.is_news() && verdict.summary.contains(word), "{verdict:#?}");
        }
    }
}

#[test]
fn a_closed_port_is_proven_and_silence_is_inferred() {
    let closed = told(false, Some(Reply::Errno(111)));
    check(&closed, By::Gateway, Cause::DnsFailure, Impact::ConnectFailed, Confidence::Proven);
    assert_eq!(closed.how, How::Icmp);
    let silent = told(false, None);
    check(&silent, By::Gateway, Cause::DnsFailure, Impact::ConnectFailed, Confidence::Inferred);
    assert_eq!((silent.how, silent.ktime_ns), (How::Timeout, 106 * SECOND + SECOND / 2));
    assert!(silent.alternatives.is_empty());
}

#[test]
fn an_answer_with_data_leaves_nothing_to_say() {
    let mut tables = tables(false);
    tables.apply(Event::DnsQuery(query(&process(812, "nginx"), true)));
    let reply = answer(0, 1);
    tables.apply(Event::DnsAnswer(DnsAnswer { ktime_ns: 100 * SECOND, cookie: 7, reply }));
    assert_eq!((tables.settled(200 * SECOND), tables.next_due()), (None, None));
}

/// What is said of a process that holds these listeners and asks for a name that does not exist.
fn told_of(owner: &Process, accepts: bool, port: Option<u16>) -> Option<Verdict> {
    let mut tables = tables(false);
    if let Some(port) = port {
        tables.apply(Event::Listener(ListenerChange {
            ktime_ns: SECOND,
            skaddr: 0xd,
            address: address(&format!("0.0.0.0:{port}")),
            netns: 1,
            netns_cookie: 0,
            listening: true,
            actor: Some(owner.clone()),
            backlog: 0,
            backlog_limit: 128,
        }));
    }
    tables.apply(Event::DnsQuery(query(owner, accepts)));
    let reply = answer(3, 0);
    tables.apply(Event::DnsAnswer(DnsAnswer { ktime_ns: 100 * SECOND, cookie: 7, reply }));
    let ended = tables.settled(110 * SECOND)?;
    of(&tables, &ended)
}

#[test]
fn only_what_a_gateway_asks_is_news() {
    let owner = process(812, "haproxy");
    let is_news = |verdict: Option<Verdict>| verdict.expect("a verdict").is_news();
    assert!(!is_news(told_of(&owner, false, None)), "a plain client");
    assert!(is_news(told_of(&owner, true, None)), "it has accepted");
    assert!(is_news(told_of(&owner, false, Some(8080))), "it will accept");
    assert_eq!(told_of(&owner, true, Some(53)), None, "a resolver asks for others");
}
