use super::*;
use crate::output::fixture;
use crate::proxy_log::{Class, Window};

const A: &str = "10.0.3.7:9000";
const B: &str = "10.0.3.8:9000";
const COMMS: &[&str] = &["nginx"];

/// A verdict at 12:03:`seconds`.
fn verdict(seconds: &str, upstream: &str, cause: Cause) -> VerdictView {
    VerdictView {
        upstream: Some(upstream.to_owned()),
        cause,
        time: at(seconds),
        ..fixture::view(&fixture::oom_killed())
    }
}

fn at(seconds: &str) -> Timestamp {
    format!("2026-11-21T12:03:{seconds}Z").parse().unwrap()
}

/// A failure in the log in that second.
fn failure(second: &str, upstream: &str, class: Class) -> Failure {
    let window = Window::new(at(second), SignedDuration::from_secs(1)).unwrap();
    Failure::new(1, window, class, "words").of(Upstream::parse(upstream))
}

fn memory() -> Memory {
    Memory { oldest: Some(at("00")), groups: Vec::new() }
}

/// The times of the verdicts that were joined, or why there is none.
fn joined(verdicts: Vec<VerdictView>, failures: &[Failure]) -> Vec<Result<String, NotJoined>> {
    let mut joiner = Joiner::new(Some(memory()), verdicts, COMMS);
    let mut pairs: Vec<Pair> = Vec::new();
    for failure in failures {
        pairs.extend(joiner.take(failure.clone()));
    }
    pairs.extend(joiner.finish());
    assert!(pairs.iter().map(|pair| &pair.failure).eq(failures), "the order of the log");
    let found = |pair: &Pair| match pair.outcome {
        Outcome::Joined { verdict, .. } => {
            Ok(joiner.verdict(verdict).unwrap().time.to_string()[17..].to_owned())
        }
        Outcome::NotJoined(why) => Err(why),
        Outcome::LogAlone(_) => panic!("{pair:?}"),
    };
    pairs.iter().map(found).collect()
}

#[test]
fn several_of_one_second_are_told_apart_by_upstream_and_cause() {
    let verdicts = vec![
        verdict("07.1", A, Cause::OomKilled),
        verdict("07.2", B, Cause::NoListener),
        verdict("07.3", A, Cause::NoListener),
        verdict("07.4", A, Cause::GatewayTimeout),
    ];
    let failures = vec![
        failure("07", A, Class::Refused),
        failure("07", A, Class::TimedOut),
        failure("07", B, Class::Refused),
        failure("07", A, Class::Closed),
    ];
    let expected = ["07.3Z", "07.4Z", "07.2Z", "07.1Z"].map(|time| Ok(time.to_owned()));
    assert_eq!(joined(verdicts, &failures), expected);
}

#[test]
fn each_verdict_is_used_once_in_the_order_of_time() {
    let verdicts = vec![verdict("07.9", A, Cause::OomKilled), verdict("07.1", A, Cause::OomKilled)];
    let failures = vec![failure("07", A, Class::Closed); 3];
    assert_eq!(
        joined(verdicts, &failures),
        [Ok("07.1Z".to_owned()), Ok("07.9Z".to_owned()), Err(NotJoined::AllUsed)]
    );
}

#[test]
fn what_lies_in_a_window_is_not_taken_by_a_neighbour() {
    let verdicts = vec![verdict("08.2", A, Cause::NoListener)];
    let failures = vec![failure("07", A, Class::Refused), failure("08", A, Class::Refused)];
    assert_eq!(joined(verdicts, &failures), [Err(NotJoined::AllUsed), Ok("08.2Z".to_owned())]);
}

#[test]
fn a_proxy_that_logs_late_still_finds_its_verdict() {
    let verdicts = vec![verdict("05.5", A, Cause::NoListener), verdict("20", A, Cause::NoListener)];
    let failures = vec![failure("07", A, Class::Refused), failure("30", A, Class::Refused)];
    assert_eq!(joined(verdicts, &failures), [Ok("05.5Z".to_owned()), Err(NotJoined::NothingThen)]);
}

#[test]
fn why_there_is_none() {
    let verdicts = || vec![verdict("07.5", A, Cause::OomKilled)];
    let early = Failure {
        window: Window::new(at("00") - SignedDuration::from_hours(1), SignedDuration::from_secs(1)).unwrap(),
        ..failure("07", A, Class::Closed)
    };
    for (failure, why) in [
        (early, NotJoined::BeforeMemory),
        (failure("07", B, Class::Closed), NotJoined::UpstreamNotSeen),
        (failure("07", A, Class::Refused), NotJoined::NothingFits),
        (failure("27", A, Class::Closed), NotJoined::NothingThen),
        (failure("07", "unix:/run/a.sock", Class::Refused), NotJoined::WithoutGroup("unix")),
        (failure("07", B, Class::Unreachable), NotJoined::WithoutGroup("connect-errors")),
    ] {
        assert_eq!(joined(verdicts(), &[failure]), [Err(why)]);
    }
    let mut nobody = Joiner::new(None, Vec::new(), COMMS);
    nobody.take(failure("07", A, Class::Closed));
    assert_eq!(nobody.finish()[0].outcome, Outcome::NotJoined(NotJoined::NoAgent));
    let mut nothing = Joiner::new(Some(Memory::default()), Vec::new(), COMMS);
    nothing.take(failure("07", A, Class::Closed));
    assert_eq!(nothing.finish()[0].outcome, Outcome::NotJoined(NotJoined::BeforeMemory));
}

#[test]
fn what_never_was_a_connection_takes_no_verdict() {
    let mut joiner = Joiner::new(Some(memory()), vec![verdict("07.5", A, Cause::Unknown)], COMMS);
    joiner.take(failure("07", A, Class::NoLiveUpstreams));
    joiner.take(failure("07", A, Class::Closed));
    let pairs = joiner.finish();
    assert!(matches!(pairs[0].outcome, Outcome::LogAlone(_)), "{pairs:?}");
    assert!(
        matches!(pairs[1].outcome, Outcome::Joined { verdict: 0, by: JoinedBy::Upstream, others: 0 }),
        "{pairs:?}"
    );
}

#[test]
fn without_an_upstream_only_the_proxys_own_connections_count() {
    let mut stranger = verdict("07.4", A, Cause::NoListener);
    stranger.owner.as_mut().unwrap().comm = "curl".to_owned();
    let verdicts =
        vec![stranger, verdict("07.5", A, Cause::NoListener), verdict("07.6", B, Cause::NoListener)];
    let mut joiner = Joiner::new(Some(memory()), verdicts, COMMS);
    joiner.take(failure("07", "pool", Class::Refused));
    assert_eq!(joiner.finish()[0].outcome, Outcome::Joined { verdict: 1, by: JoinedBy::Time, others: 1 });
}

/// The first verdict lies in the second before its line: the line must not take the next one's.
#[test]
fn a_queue_that_the_gateway_gave_up_on_is_left_to_the_timeout() {
    let gave_up = VerdictView { by: By::Gateway, ..verdict("07.3", B, Cause::NeverAccepted) };
    let verdicts = vec![verdict("06.99", A, Cause::NoListener), gave_up];
    let failures =
        vec![failure("07", "pool", Class::BadGateway), failure("07", "pool", Class::GatewayTimeout)];
    assert_eq!(joined(verdicts, &failures), ["06.99Z", "07.3Z"].map(|time| Ok(time.to_owned())));
    // The server's end while it waited is another story.
    let ended = VerdictView { by: By::Upstream, ..verdict("07.3", B, Cause::NeverAccepted) };
    assert_eq!(joined(vec![ended], &failures[..1]), [Ok("07.3Z".to_owned())]);
}

#[test]
fn the_gateways_own_port_decides() {
    let mut second = verdict("07.6", A, Cause::NoListener);
    second.local = Some("10.0.1.2:50001".to_owned());
    let mut joiner = Joiner::new(Some(memory()), vec![verdict("07.5", A, Cause::NoListener), second], COMMS);
    let local = Some("10.0.1.2:50001".parse().unwrap());
    joiner.take(Failure { local, ..failure("07", A, Class::Refused) });
    assert_eq!(
        joiner.finish()[0].outcome,
        Outcome::Joined { verdict: 1, by: JoinedBy::LocalPort, others: 0 }
    );
    // Nor does a neighbour's verdict do, if the own one is missing.
    joiner.take(Failure { local, ..failure("07", A, Class::Refused) });
    assert_eq!(joiner.finish()[0].outcome, Outcome::NotJoined(NotJoined::NothingFits));
}

#[test]
fn a_cause_that_is_certain_goes_before_one_that_is_possible() {
    let mut possible = verdict("07.1", A, Cause::ConnectTimeout);
    possible.alternatives = vec![Cause::AcceptQueueFull];
    let verdicts = vec![possible, verdict("07.9", A, Cause::AcceptQueueFull)];
    let failures = vec![failure("07", A, Class::BacklogFull), failure("07", A, Class::ConnectTimedOut)];
    assert_eq!(joined(verdicts, &failures), [Ok("07.9Z".to_owned()), Ok("07.1Z".to_owned())]);
}

#[test]
fn failures_are_given_out_as_the_log_goes_on() {
    let mut joiner = Joiner::new(Some(memory()), Vec::new(), COMMS);
    assert_eq!(joiner.take(failure("07", A, Class::Closed)).len(), 0);
    assert_eq!(joiner.take(failure("08", A, Class::Closed)).len(), 0);
    assert_eq!(joiner.take(failure("30", A, Class::Closed)).len(), 2);
    // Another log begins.
    assert_eq!(joiner.take(failure("10", A, Class::Closed)).len(), 1);
    for _ in 0..2 * MOST_WAITING {
        joiner.take(failure("10", A, Class::Closed));
    }
    assert_eq!(joiner.finish().len(), MOST_WAITING);
}

#[test]
fn a_name_of_the_configuration_decides_where_the_log_has_no_address() {
    let named = |seconds, upstream, name: &str| {
        let owner = fixture::view(&fixture::oom_killed()).owner;
        let upstream_name = Some(name.to_owned());
        VerdictView { upstream_name, owner, ..verdict(seconds, upstream, Cause::NoListener) }
    };
    let verdicts = vec![named("07.1", A, "api/a"), named("07.2", B, "api/b, old/b")];
    let mut joiner = Joiner::new(Some(memory()), verdicts, COMMS);
    for name in ["api/b", "api/a"] {
        joiner.take(failure("07", name, Class::Refused));
    }
    let outcomes: Vec<_> = joiner.finish().into_iter().map(|pair| pair.outcome).collect();
    let joined = |verdict| Outcome::Joined { verdict, by: JoinedBy::Name, others: 0 };
    assert_eq!(outcomes, [joined(1), joined(0)]);
}
