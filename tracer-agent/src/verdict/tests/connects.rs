//! Connects that failed.

use super::*;

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

#[test]
fn a_refusal_by_this_host_needs_no_other_witness() {
    // The hook of the RST was skipped; the hook that saw the refusal was not.
    let verdict = one(&[SocketEnd { refused_in_netns: Some(2), ..failed_connect(111) }]);
    check(&verdict, By::Upstream, Cause::NoListener, Impact::ConnectFailed, Confidence::Proven);
    let remote = one(&[failed_connect(111)]);
    assert_eq!((remote.cause, remote.alternatives), (Cause::FirewallRejected, vec![Cause::NoListener]));
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
    let (gone, killer) = (process(991, "api"), process(33, "sh"));
    let events = vec![
        listener(true, 10 * SECOND, gone.clone()),
        signal(&gone, &killer, 9),
        Event::ProcessExit(ProcessExit { ktime_ns: 99 * SECOND, process: dying(991, "api", signalled(9)) }),
        listener(false, 99 * SECOND, gone),
        Event::SocketEnd(refused.clone()),
    ];
    let killed = play(false, events).remove(0);
    assert_eq!(killed.culprit.and_then(|c| c.killed_by), Some(killer));
    assert!(killed.summary.ends_with("api[991] did (SIGKILL by sh[33])"), "{}", killed.summary);
    let never = one(&[refused]);
    assert_eq!((never.confidence, never.culprit), (Confidence::Proven, None));
}
