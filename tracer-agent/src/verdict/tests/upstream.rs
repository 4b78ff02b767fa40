//! What the upstream did, seen from both ends and from one.

use super::*;

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
    let behind_data = one(&[SocketEnd { unread: 141, ..answered.clone() }]);
    check(&behind_data, By::Upstream, Cause::ResetMidResponse, Impact::Unknown, Confidence::Inferred);
    assert!(behind_data.alternatives.contains(&Cause::ClosedUnreadData));
    let unread =
        SocketEnd { unread: 3, bytes_sent: 141, new_state: TcpState::Close, ..accepted(process(7, "api")) };
    let on_its_way = SocketEnd { unacked: 100, ..unread.clone() };
    assert_eq!(one(&[on_its_way, answered.clone()]).impact, Impact::Unknown);
    let more_to_send = SocketEnd { unacked: 5000, ..answered.clone() };
    assert_eq!(one(&[unread.clone(), more_to_send]).impact, Impact::Unknown);
    let on_purpose = SocketEnd { linger0: true, unread: 0, ..unread.clone() };
    assert_eq!(one(&[on_purpose, answered.clone()]).impact, Impact::ResponseTruncated);
    let early = one(&[unread, SocketEnd { unread: 141, ..answered }]);
    check(&early, By::Upstream, Cause::Graceful, Impact::None, Confidence::Proven);
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
fn goodbyes_that_crossed_harm_nobody() {
    let crossed = SocketEnd {
        pending: false,
        bytes_received: 348,
        exchanges: 1,
        unread: 31,
        written_since_read: Some(31),
        lrcv_age: 0,
        lsnd_age: 0,
        ..reset_leg()
    };
    let verdict = one(std::slice::from_ref(&crossed));
    check(&verdict, By::Upstream, Cause::Graceful, Impact::None, Confidence::Proven);
    // Half a response is more than a few bytes, and its reader has written nothing since.
    let half = one(&[SocketEnd { unread: 1200, ..crossed.clone() }]);
    assert_eq!(half.cause, Cause::ResetMidResponse);
    let silent = one(&[SocketEnd { written_since_read: Some(0), ..crossed }]);
    assert_eq!(silent.cause, Cause::ResetMidResponse);
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
    assert!(verdict.summary.contains("idle 5.000 s, closed by the upstream"), "{}", verdict.summary);
    // The first request on a connection cannot cross an idle close.
    assert_eq!(one(&[SocketEnd { exchanges: 0, ..crossed }]).cause, Cause::ClosedWithoutResponse);
}

#[test]
fn an_accepted_end_alone_speaks_for_its_remote_client() {
    let verdict = one(&[accepted(dying(7, "api", signalled(11)))]);
    check(&verdict, By::Upstream, Cause::ProcessCrashed, Impact::RequestLost, Confidence::Proven);
    assert_eq!((&verdict.upstream, verdict.listener), (&None, Some(address("10.0.0.2:80"))));
    assert!(verdict.is_news());
    let left = SocketEnd { new_state: TcpState::CloseWait, actor: None, ..accepted(process(7, "api")) };
    assert_eq!(play(false, vec![Event::SocketEnd(left)]), vec![]);
}

#[test]
fn a_request_written_after_the_fin_is_a_race_on_a_kept_connection() {
    let late = SocketEnd {
        old_state: TcpState::CloseWait,
        new_state: TcpState::Close,
        sk_err: 32,
        rst_received: true,
        exchanges: 1,
        ..leg()
    };
    let verdict = one(std::slice::from_ref(&late));
    check(&verdict, By::Upstream, Cause::KeepaliveRace, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.how, How::FinReceived);
    // On a new connection nothing was kept: the upstream closed what it had just accepted.
    let new = one(&[SocketEnd { exchanges: 0, ..late }]);
    assert_eq!(new.cause, Cause::ClosedWithoutResponse);
}

#[test]
fn a_goodbye_that_answers_a_goodbye_is_no_lost_request() {
    let echo = SocketEnd { exchanges: 2, written_since_read: Some(8), lsnd_age: 0, lrcv_age: 0, ..leg() };
    let verdict = one(std::slice::from_ref(&echo));
    check(&verdict, By::Upstream, Cause::Graceful, Impact::None, Confidence::Proven);
    let request = one(&[SocketEnd { written_since_read: Some(48), ..echo.clone() }]);
    assert_eq!((request.cause, request.impact), (Cause::ClosedWithoutResponse, Impact::RequestLost));
    // Waiting for an answer to it is another matter.
    assert_eq!(one(&[SocketEnd { lsnd_age: 2500, ..echo }]).impact, Impact::Unknown);
}

#[test]
fn a_process_that_dies_with_more_to_send_cuts_the_response_short() {
    let api = dying(42, "api", signalled(9));
    let half = SocketEnd {
        pending: false,
        peer_ended_badly: true,
        bytes_received: 2000,
        exchanges: 1,
        lrcv_age: 2,
        upstream_reused: true,
        ..leg()
    };
    let unsent = SocketEnd { unanswered: false, unacked: 500, bytes_sent: 2500, ..accepted(api.clone()) };
    let verdict = one(&[unsent.clone(), half.clone()]);
    check(&verdict, By::Upstream, Cause::ClosedMidResponse, Impact::ResponseTruncated, Confidence::Proven);
    // All was sent: in the middle of a response, or just after one.
    let sent = SocketEnd { unacked: 0, bytes_sent: 2000, ..unsent };
    assert_eq!(one(&[sent.clone(), half.clone()]).impact, Impact::Unknown);
    let never_kept = SocketEnd { upstream_reused: false, lrcv_age: 100, ..half.clone() };
    assert_eq!(one(&[sent.clone(), never_kept]).impact, Impact::ResponseTruncated);
    let kept = SocketEnd { lrcv_age: 500, ..half };
    assert_eq!(one(&[sent, kept]).impact, Impact::None);
}

#[test]
fn an_accepted_end_that_an_operator_destroyed_is_his_doing() {
    let destroyed = SocketEnd { new_state: TcpState::Close, sk_err: 103, ..accepted(process(77, "ss")) };
    let verdict = one(&[destroyed, reset_leg()]);
    check(&verdict, By::Operator, Cause::SocketDestroyed, Impact::RequestLost, Confidence::Proven);
    assert_eq!(verdict.culprit.map(|c| c.process.comm), Some("ss".into()));
}

/// The end that was destroyed is told of only if somebody asks for what harmed nobody: the verdict may not hang on it.
#[test]
fn a_destroyed_end_whose_reset_was_lost_has_forgotten_the_connection() {
    let destroyed = SocketEnd { new_state: TcpState::Close, sk_err: 103, ..accepted(process(77, "ss")) };
    let later = |ns| SocketEnd { ktime_ns: destroyed.ktime_ns + ns, stranger: true, ..reset_leg() };
    let lost = one(&[destroyed.clone(), later(20_000_000)]);
    check(&lost, By::Upstream, Cause::ConnectionForgotten, Impact::RequestLost, Confidence::Proven);
    assert_eq!(one(&[later(20_000_000)]).cause, Cause::ConnectionForgotten);
    assert_eq!(one(&[destroyed.clone(), later(500_000)]).cause, Cause::SocketDestroyed);
}
