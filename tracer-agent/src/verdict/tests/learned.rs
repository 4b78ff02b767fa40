//! What is told from repetition, and what must not be.

use super::*;

/// `end`, the `n`th of several seconds apart.
fn nth(n: u64, end: SocketEnd) -> SocketEnd {
    let mut end = SocketEnd { ktime_ns: (100 + 10 * n) * SECOND, cookie: n, ..end };
    end.tuple.local.set_port(40_000 + n as u16);
    end
}

/// The verdicts on these ends, ten seconds apart.
fn in_turn(vantage: bool, ends: impl IntoIterator<Item = SocketEnd>) -> Vec<Verdict> {
    let ends = (0..).zip(ends).map(|(n, end)| Event::SocketEnd(nth(n, end)));
    let mut tables = tables(vantage);
    let mut verdicts = Vec::new();
    for event in ends {
        let due = event.ktime_ns() + SETTLE_NS;
        verdicts.extend(tables.apply(event).and_then(|ended| of(&tables, &ended)));
        while let Some(ended) = tables.settled(due) {
            verdicts.extend(of(&tables, &ended));
        }
    }
    verdicts
}

fn causes(verdicts: &[Verdict]) -> Vec<Cause> {
    verdicts.iter().map(|v| v.cause).collect()
}

/// Ticks of 4 ms.
fn aged(ms: u32, end: SocketEnd) -> SocketEnd {
    SocketEnd { lsnd_age: ms / 4, lrcv_age: ms / 4, slowest_answer: 300, ..end }
}

#[test]
fn the_third_close_at_one_age_is_a_timeout_and_what_is_out_stays() {
    for (end, word) in [(leg(), "closed"), (reset_leg(), "reset")] {
        let verdicts = in_turn(true, [4000, 4004, 700, 4012].map(|ms| aged(ms, end.clone())));
        assert_eq!(verdicts.len(), 4);
        let timeout = &verdicts[3];
        check(timeout, By::Upstream, Cause::UpstreamTimeout, Impact::RequestLost, Confidence::Inferred);
        assert!(verdicts[..3].iter().all(|v| v.cause != Cause::UpstreamTimeout), "{:?}", causes(&verdicts));
        assert_eq!(
            timeout.summary,
            format!(
                "{word} without an answer 4.012 s after the request, as 3 of the last 4 were (4.00 s), while answers \
                 came within 1.2 s: a timeout there"
            )
        );
        assert!(timeout.evidence.iter().any(|fact| fact.contains("3 of the last 4")), "{timeout:#?}");
    }
}

#[test]
fn an_answer_that_took_longer_excludes_a_timeout() {
    let slow = |ms| SocketEnd { slowest_answer: 1001, ..aged(ms, leg()) };
    let verdicts = in_turn(true, [4000, 4000, 4000].map(slow));
    assert_eq!(causes(&verdicts), [Cause::ClosedWithoutResponse; 3]);
}

#[test]
fn closes_at_ages_that_differ_are_no_timeout() {
    let verdicts = in_turn(true, [1500, 4000, 4400, 5200, 4800].map(|ms| aged(ms, leg())));
    assert_eq!(causes(&verdicts), [Cause::ClosedWithoutResponse; 5]);
}

#[test]
fn what_is_closed_at_once_is_rejected_and_not_timed_out() {
    let verdicts = in_turn(true, [4, 0, 4, 4].map(|ms| SocketEnd { slowest_answer: 0, ..aged(ms, leg()) }));
    assert_eq!(causes(&verdicts), [Cause::ClosedWithoutResponse; 4]);
}

#[test]
fn a_body_that_is_not_taken_counts_from_the_opening_of_its_connection() {
    let stalled = |(idle, retransmits)| SocketEnd {
        opened_ns: None,
        unacked: 2_876_096,
        bytes_sent: 3_000_151,
        written_since_read: Some(3_000_151),
        retransmits_since_read: retransmits,
        ..aged(idle, leg())
    };
    let ends = [(688, 0), (900, 0), (52, 2)].map(stalled);
    let opened = (0..).zip(ends).map(|(n, end)| {
        let ktime_ns: u64 = (100 + 10 * n) * SECOND;
        SocketEnd { opened_ns: Some(ktime_ns - 2 * SECOND), ..end }
    });
    let verdicts = in_turn(true, opened.collect::<Vec<_>>());
    assert_eq!(verdicts[2].cause, Cause::UpstreamTimeout);
    let words = "closed without an answer 2.000 s after the request, as all of the last 3 were (2.00 s)";
    assert!(verdicts[2].summary.starts_with(words), "{}", verdicts[2].summary);
}

#[test]
fn a_body_whose_end_is_taken_at_the_close_counts_from_the_opening_of_its_connection() {
    let taken = |(n, idle, retransmits): (u64, u32, u32)| {
        let ktime_ns: u64 = (100 + 10 * n) * SECOND;
        let end = SocketEnd { bytes_sent: 600_174, written_since_read: Some(600_174), ..aged(idle, leg()) };
        SocketEnd {
            ktime_ns,
            opened_ns: Some(ktime_ns - 4 * SECOND),
            retransmits_since_read: retransmits,
            ..end
        }
    };
    let verdicts = in_turn(true, [(0, 0, 0), (1, 1, 1), (2, 0, 0)].map(taken).to_vec());
    assert_eq!(verdicts[2].cause, Cause::UpstreamTimeout);
    assert!(verdicts[2].summary.contains("4.000 s after the request"), "{}", verdicts[2].summary);
}

#[test]
fn a_control_frame_that_waits_is_no_request_that_times_out() {
    for bytes in [17, 31] {
        let ping = SocketEnd { exchanges: 3, written_since_read: Some(bytes), ..aged(4000, leg()) };
        let verdicts = in_turn(true, [ping.clone(), ping.clone(), ping]);
        assert!(verdicts.iter().all(|v| v.cause != Cause::UpstreamTimeout), "{bytes}: {verdicts:#?}");
    }
}

#[test]
fn deaths_teach_no_timeout() {
    let exit = Exit { code: Some(1), signal: None, oom: false };
    let pairs = |n: u64, actor: Process| {
        let client = nth(n, aged(4000, leg()));
        let mut server = nth(n, accepted(actor));
        server.tuple.peer = client.tuple.local;
        server.tuple.local = client.tuple.peer;
        [Event::SocketEnd(server), Event::SocketEnd(client)]
    };
    let died: Vec<_> = (0..3).flat_map(|n| pairs(n, dying(7, "api", exit))).collect();
    assert_eq!(causes(&play(false, died.clone())), [Cause::ProcessExited; 3]);
    let then = [Event::SocketEnd(nth(3, aged(4000, leg())))];
    let verdicts = play(false, died.into_iter().chain(then).collect());
    assert_eq!(verdicts[3].cause, Cause::ClosedWithoutResponse, "three deaths before it");
    let lives: Vec<_> = (0..3).flat_map(|n| pairs(n, process(7, "api"))).collect();
    let verdicts = play(false, lives);
    assert_eq!(verdicts[2].cause, Cause::UpstreamTimeout);
    assert_eq!(verdicts[2].culprit.as_ref().map(|c| c.process.tgid), Some(7));
}

#[test]
fn closes_of_one_instant_are_no_repetition_unless_the_process_is_seen_to_live() {
    let together = |n: u64| SocketEnd { ktime_ns: 100 * SECOND + n * 1_000_000, ..nth(n, aged(4000, leg())) };
    let alone = play(true, (0..5).map(|n| Event::SocketEnd(together(n))).collect());
    assert_eq!(causes(&alone), [Cause::ClosedWithoutResponse; 5]);
    assert!(alone[0].alternatives.contains(&Cause::UpstreamTimeout), "equal ages may be one timeout");
    let mut both = Vec::new();
    for n in 0..5 {
        let client = together(n);
        let mut server = accepted(process(7, "api"));
        server.tuple.peer = client.tuple.local;
        both.extend([Event::SocketEnd(server), Event::SocketEnd(client)]);
    }
    assert_eq!(causes(&play(false, both))[2..], [Cause::UpstreamTimeout; 3]);
}

#[test]
fn the_gateways_own_timeout_is_named_once_it_repeats() {
    let verdicts = in_turn(false, [60_000, 60_004, 60_000].map(|ms| aged(ms, closed_leg())));
    assert_eq!(causes(&verdicts), [Cause::GatewayTimeout; 3]);
    assert!(!verdicts[1].summary.contains("your gateway"), "{}", verdicts[1].summary);
    let third = &verdicts[2].summary;
    assert!(third.starts_with("your gateway gives up after 60.0 s: proxy_read_timeout"), "{third}");
    let sending = SocketEnd { unacked: 705_176, ..aged(2000, closed_leg()) };
    let verdicts = in_turn(false, [sending.clone(), sending.clone(), sending]);
    let third = &verdicts[2].summary;
    assert!(third.starts_with("your gateway gives up after 2.0 s: proxy_send_timeout"), "{third}");
    let connecting = SocketEnd { actor: Some(process(812, "nginx")), ..failed_connect(0) };
    let opened = |n: u64| Some((100 + 10 * n) * SECOND - 300_000_000);
    let verdicts = in_turn(false, (0..3).map(|n| SocketEnd { opened_ns: opened(n), ..connecting.clone() }));
    let third = &verdicts[2].summary;
    assert!(third.starts_with("your gateway gives up after 300 ms: proxy_connect_timeout"), "{third}");
}

#[test]
fn a_gateway_that_closes_at_ages_of_no_pattern_has_no_timeout() {
    let verdicts = in_turn(
        false,
        [700, 1330, 2470, 340].map(|ms| SocketEnd { slowest_answer: 0, ..aged(ms, closed_leg()) }),
    );
    let closed = Cause::GatewayClosed;
    assert_eq!(causes(&verdicts), [Cause::GatewayTimeout, Cause::GatewayTimeout, closed, closed]);
    let (alternatives, confidence) = (&verdicts[2].alternatives, verdicts[2].confidence);
    assert_eq!(confidence, Confidence::Inferred);
    assert_eq!(alternatives[..], [Cause::ClientGone, Cause::GatewayTimeout]);
    assert!(verdicts[2].is_news());
}

#[test]
fn a_gateway_that_has_waited_longer_has_no_such_timeout() {
    let closed = |ms| SocketEnd { slowest_answer: 750, ..aged(ms, closed_leg()) };
    assert_eq!(one(&[closed(1300)]).cause, Cause::GatewayClosed);
    // Another route may have another timeout, and people set those to whole seconds; or it repeats.
    assert_eq!(one(&[closed(2004)]).cause, Cause::GatewayTimeout);
    assert_eq!(one(&[closed(3080)]).cause, Cause::GatewayTimeout);
    let verdicts = in_turn(false, [1300, 1300, 1300].map(closed));
    assert_eq!(verdicts[2].cause, Cause::GatewayTimeout);
}

#[test]
fn a_client_that_leaves_teaches_no_timeout() {
    let mut events = Vec::new();
    for n in 0..3 {
        let end = nth(n, closed_leg());
        let client = SocketEnd { ktime_ns: end.ktime_ns - 1_000_000, ..client_leg() };
        let tail = SocketEnd {
            ktime_ns: end.ktime_ns + 50_000,
            old_state: TcpState::CloseWait,
            new_state: TcpState::LastAck,
            actor: Some(process(812, "nginx")),
            ..client.clone()
        };
        events.extend([client, end, tail].map(Event::SocketEnd));
    }
    events.push(Event::SocketEnd(nth(3, closed_leg())));
    let verdicts = play(false, events);
    assert_eq!(verdicts.last().map(|v| v.cause), Some(Cause::GatewayTimeout));
    assert!(verdicts.iter().all(|v| !v.summary.contains("your gateway")), "{verdicts:#?}");
}

#[test]
fn the_idle_limit_is_the_advice_that_ends_a_race() {
    let crossed = SocketEnd { exchanges: 2, unacked: 97, lsnd_age: 0, lrcv_age: 1250, ..leg() };
    let known = SocketEnd { idle_ages: [1250, 1250, 1251, 60, 0, 0, 0, 0], ..crossed.clone() };
    let unread_body =
        SocketEnd { written_since_read: Some(3_000_151), unacked: 2_876_096, ..crossed.clone() };
    assert_eq!(one(&[unread_body]).cause, Cause::ClosedWithoutResponse, "part of the request had arrived");
    for (end, words) in [
        (known.clone(), "keep idle connections for less than 5 s (keepalive_timeout 4s)"),
        (crossed.clone(), "keep idle connections for less than 5 s (keepalive_timeout 4s)"),
        (
            // 4.972 s: the answer before came late.
            SocketEnd { idle_ages: [1243, 1243, 1244, 0, 0, 0, 0, 0], ..crossed.clone() },
            "keep idle connections for less than 5 s (keepalive_timeout 4s)",
        ),
        (
            SocketEnd { idle_ages: [125; 8], ..crossed },
            "keep idle connections for less than 500 ms (keepalive_timeout 400ms)",
        ),
    ] {
        let verdict = one(&[end]);
        assert_eq!(verdict.cause, Cause::KeepaliveRace);
        assert!(verdict.summary.starts_with("idle 5.000 s, closed by the upstream"), "{}", verdict.summary);
        assert!(verdict.summary.ends_with(words), "{}", verdict.summary);
    }
    let facts = one(&[known]).evidence.join("; ");
    assert!(facts.contains("it closes idle connections after 5.000 s"), "{facts}");
}

#[test]
fn connections_that_end_together_and_are_refused_since_are_a_death() {
    let together = |n: u64| SocketEnd {
        ktime_ns: 100 * SECOND + n * 1_000_000,
        ..nth(n, aged(400 + 300 * n as u32, leg()))
    };
    let ends: Vec<_> = (0..3).map(|n| Event::SocketEnd(together(n))).collect();
    let refused =
        SocketEnd { ktime_ns: 100 * SECOND + 50_000_000, rst_received: true, ..failed_connect(111) };
    let mut events = ends.clone();
    events.push(Event::SocketEnd(refused));
    let verdicts = play(true, events);
    let died = verdicts.iter().find(|v| v.cause == Cause::ClosedWithoutResponse).expect("a lost request");
    check(died, By::Upstream, Cause::ClosedWithoutResponse, Impact::RequestLost, Confidence::Inferred);
    assert!(
        died.alternatives.contains(&Cause::OomKilled) && !died.alternatives.contains(&Cause::UpstreamTimeout)
    );
    let words = "3 connections ended within 50 ms, and connects are refused since: the process there died or was restarted";
    assert!(died.summary.ends_with(words), "{}", died.summary);
    // Without a refusal it takes requests of different ages, after a time without failures.
    let verdict = play(true, ends).remove(0);
    assert!(!verdict.alternatives.contains(&Cause::UpstreamTimeout), "{verdict:#?}");
    assert!(verdict.summary.contains("3 connections ended within 50 ms"), "{}", verdict.summary);
    let mut busy = vec![Event::SocketEnd(SocketEnd { ktime_ns: 95 * SECOND, ..leg() })];
    busy.extend((0..2).map(|n| Event::SocketEnd(together(n))));
    let verdict = play(true, busy).remove(1);
    assert!(verdict.alternatives.contains(&Cause::UpstreamTimeout), "{verdict:#?}");
}

#[test]
fn resets_that_come_together_may_be_the_networks() {
    let together = |n: u64| SocketEnd {
        ktime_ns: 100 * SECOND + n * 1_000_000,
        ..nth(n, aged(400 + 300 * n as u32, reset_leg()))
    };
    let ends: Vec<_> = (0..3).map(|n| Event::SocketEnd(together(n))).collect();
    let verdict = play(true, ends.clone()).remove(0);
    assert!(verdict.alternatives.contains(&Cause::MiddleboxReset), "{verdict:#?}");
    let refused =
        SocketEnd { ktime_ns: 100 * SECOND + 50_000_000, rst_received: true, ..failed_connect(111) };
    let events = ends.into_iter().chain([Event::SocketEnd(refused)]).collect();
    let verdicts = play(true, events);
    let died = verdicts.iter().find(|v| v.cause == Cause::ResetWithoutResponse).expect("a lost request");
    assert!(!died.alternatives.contains(&Cause::MiddleboxReset), "{died:#?}");
}

proptest::proptest! {
    #[test]
    fn a_timeout_has_repeated_whatever_the_order(ages in proptest::collection::vec(0_u32..2500, 1..30)) {
        let verdicts = in_turn(true, ages.iter().map(|ticks| aged(ticks * 4, leg())));
        proptest::prop_assert_eq!(verdicts.len(), ages.len());
        for (n, verdict) in verdicts.iter().enumerate() {
            if verdict.cause == Cause::UpstreamTimeout {
                let own = f64::from(ages[n]) * 4.0;
                let alike = ages[..=n].iter().filter(|t| (f64::from(**t) * 4.0 - own).abs() <= (own * 0.055).max(21.0));
                proptest::prop_assert!(alike.count() >= 3 && own > 1200.0);
            }
        }
    }
}

#[test]
fn a_timer_that_fires_a_millisecond_early_is_named_as_it_is_configured() {
    use crate::verdict::words::seconds;
    for (ms, text) in [
        (499.4, "500 ms"),
        (501.3, "500 ms"),
        (999.2, "1.000 s"),
        (1204.0, "1.204 s"),
        (37.2, "37 ms"),
        (350.0, "350 ms"),
        (2.0, "less than 4 ms"),
    ] {
        assert_eq!(seconds(ms), text);
    }
}
