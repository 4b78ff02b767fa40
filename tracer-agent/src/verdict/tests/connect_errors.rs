//! Connects that failed without a trace in TCP.

use super::*;
use crate::event::{ConnectError, Target, UnixServer};
use crate::verdict::connect_error::RULES;

const PATH: &str = "/run/php/php-fpm.sock";

fn error(target: Target, errno: u32) -> ConnectError {
    ConnectError {
        ktime_ns: 100 * SECOND,
        skaddr: 0xa,
        owner: Some(process(812, "nginx")),
        target: Some(target),
        errno,
        netns: 1,
        owner_accepts: true,
    }
}

fn tcp(errno: u32) -> ConnectError {
    error(Target::Tcp(address("10.0.0.2:80")), errno)
}

fn unix(errno: u32) -> ConnectError {
    error(Target::Unix(PATH.into()), errno)
}

fn told(error: ConnectError) -> Verdict {
    let mut verdicts = play(false, vec![Event::ConnectError(error)]);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

#[test]
fn errors_are_told_apart() {
    let cases = [
        (tcp(101), By::Gateway, Cause::GatewayResource),
        (tcp(113), By::Gateway, Cause::GatewayResource),
        (tcp(22), By::Gateway, Cause::GatewayResource),
        (tcp(99), By::Gateway, Cause::GatewayResource),
        (tcp(1), By::Firewall, Cause::FirewallRejected),
        (tcp(13), By::Firewall, Cause::FirewallRejected),
        (tcp(111), By::Upstream, Cause::NoListener),
        (tcp(110), By::Network, Cause::ConnectTimeout),
        (tcp(71), By::Unknown, Cause::Unknown),
        (unix(11), By::Upstream, Cause::AcceptQueueFull),
        (unix(2), By::Upstream, Cause::NoListener),
        (unix(111), By::Upstream, Cause::NoListener),
        (unix(91), By::Upstream, Cause::NoListener),
        (unix(13), By::Gateway, Cause::GatewayResource),
    ];
    for (error, by, cause) in cases {
        let verdict = told(error);
        let got = (verdict.by, verdict.cause, verdict.impact, verdict.how);
        assert_eq!(got, (by, cause, Impact::ConnectFailed, How::ConnectError), "{verdict:#?}");
        assert!(verdict.is_news() && !verdict.summary.is_empty() && !verdict.evidence.is_empty());
    }
}

#[test]
fn what_the_change_of_state_told_is_not_told_again() {
    let refused = SocketEnd { rst_received: true, ..failed_connect(111) };
    let again = |ms: u64| ConnectError { ktime_ns: 100 * SECOND + ms * 1_000_000, ..tcp(113) };
    let told = |error| play(false, vec![Event::SocketEnd(refused.clone()), Event::ConnectError(error)]).len();
    assert_eq!(told(again(20)), 1);
    // The next socket at the same address fails in its own right, as does one to another peer.
    assert_eq!(told(again(900)), 2);
    assert_eq!(told(error(Target::Tcp(address("10.0.0.3:80")), 113)), 2);
}

#[test]
fn a_socket_that_need_not_be_there_is_no_news() {
    let plain = |error: ConnectError| ConnectError { owner_accepts: false, ..error };
    let quiet = [
        plain(unix(2)),
        error(Target::Unix("/var/run/nscd/socket".into()), 2),
        plain(error(Target::Unix("@/tmp/.X11-unix/X0".into()), 111)),
    ];
    for error in quiet {
        assert_eq!(told(error).impact, Impact::None);
    }
    // A stale file was somebody's service once.
    assert_eq!(told(plain(unix(111))).impact, Impact::ConnectFailed);
}

#[test]
fn who_served_the_path_last_is_named_with_its_end() {
    let exit = Exit { code: Some(0), signal: None, oom: false };
    let worker = process(4242, "php-fpm");
    let served = UnixServer { ktime_ns: 90 * SECOND, connection: unix::connection(Some(worker.clone())) };
    let gone = ProcessExit { ktime_ns: 97 * SECOND, process: dying(4242, "php-fpm", exit) };
    let plain = ConnectError { owner_accepts: false, ..unix(2) };
    let events = vec![Event::UnixServer(served), Event::ProcessExit(gone), Event::ConnectError(plain)];
    let verdict = play(false, events).remove(0);
    check(&verdict, By::Upstream, Cause::NoListener, Impact::ConnectFailed, Confidence::Proven);
    assert_eq!(verdict.culprit.map(|c| (c.process, c.exit)), Some((worker, Some(exit))));
    assert_eq!(
        verdict.summary,
        "nginx[812] could not connect to unix:/run/php/php-fpm.sock: there is no such socket; php-fpm[4242] served \
         it last (exit code 0)"
    );
}

#[test]
fn each_rule_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}
