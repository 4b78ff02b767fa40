use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::*;
use crate::audit;
use crate::enrich::gateways::{Proxy, State};
use crate::output::VerdictView;
use crate::output::audit::AuditView;
use crate::output::fixture;
use crate::output::hub::Hub;
use crate::output::selection::{Selection, Span};
use crate::output::socket::{Client, Server};
use crate::output::state::{Asker, ListenerProcess, StateView, TimeoutView, WaitedFor};
use crate::output::view::{CulpritView, HistoryView, ProcessView, Ready, SCHEMA};

/// 12:03:07.412345678 UTC, the time of the fixture.
fn base() -> VerdictView {
    fixture::view(&fixture::oom_killed())
}

fn at(seconds: i64) -> Timestamp {
    base().time + jiff::SignedDuration::from_secs(seconds)
}

/// One loss of an OOM-killed process, so many seconds after the first.
fn killed(seconds: i64, pid: u32) -> VerdictView {
    let view = base();
    let started = rounded(-60 - i64::from(pid % 10));
    let culprit = view.culprit.clone().map(|culprit| CulpritView { pid, started, ..culprit });
    VerdictView { time: at(seconds), culprit, ..view }
}

/// As lines have start times.
fn rounded(seconds: i64) -> Option<Timestamp> {
    Some(at(seconds).round(jiff::Unit::Second).unwrap())
}

fn refused(seconds: i64, upstream: &str) -> VerdictView {
    VerdictView {
        time: at(seconds),
        upstream: Some(upstream.to_owned()),
        cause: Cause::NoListener,
        impact: Impact::ConnectFailed,
        culprit: None,
        summary: format!("nothing listens on {upstream}"),
        ..base()
    }
}

fn asked(since: Option<Timestamp>) -> Asked {
    Asked {
        host: "gw-1".to_owned(),
        time: at(120),
        zone: TimeZone::fixed(jiff::tz::offset(1)),
        selection: Selection { span: Span { since, until: None }, ..Selection::default() },
    }
}

fn history(oldest: Option<Timestamp>, forgotten: u64) -> HistoryView {
    HistoryView { schema: SCHEMA, kind: Kind::History, kept: 0, capacity: 50_000, oldest, forgotten }
}

fn report(views: &[VerdictView]) -> Report {
    let mut builder = Builder::default();
    for view in views {
        builder.add(view);
    }
    builder.finish(asked(Some(at(-600))), Some(&history(None, 0)), None)
}

fn page(report: &Report) -> String {
    let text = Page::new(report, TimeZone::fixed(jiff::tz::offset(1)), Some(80)).text();
    anstream::adapter::strip_str(&text).to_string()
}

/// 97 losses to three OOM kills, three refused elsewhere.
fn incident() -> Vec<VerdictView> {
    let kills = (0..97).map(|n| killed(n % 30, 4242 + u32::try_from(n % 3).unwrap()));
    kills.chain((0..3).map(|n| refused(40 + n, "10.0.3.9:8145"))).collect()
}

#[test]
fn the_heaviest_upstream_and_its_culprits_come_first() {
    let report = report(&incident());
    assert_eq!(report.totals.losses, 100);
    assert_eq!(report.totals.impacts.request_lost, 97);
    assert_eq!(report.totals.first, Some(at(0)));
    assert_eq!(report.totals.last, Some(at(42)));
    assert_eq!(
        report.headline,
        "97 requests lost, 3 connects failed from 13:03:07 to 13:03:49 (42 s; the last 1 min 18 s ago)."
    );
    assert_eq!(
        report.findings[0],
        "97 % of the losses are 10.0.3.7:9000: php-fpm OOM-killed 3 times, first at 13:03:07."
    );
    let group = &report.groups[0];
    assert_eq!((group.cause, group.losses), (Cause::OomKilled, 97));
    let culprit = &group.culprits[0];
    assert_eq!((culprit.processes, culprit.losses), (3, 97));
    assert_eq!(culprit.pids, [4242, 4243, 4244]);
    assert_eq!(report.next[0].cause, Cause::OomKilled);
    assert!(!report.next[0].advice.is_empty());
}

#[test]
fn the_order_of_the_verdicts_does_not_matter() {
    let mut views = incident();
    let forwards = report(&views);
    views.reverse();
    let mut backwards = report(&views);
    // Pids are the first few as they came.
    backwards.groups[0].culprits[0].pids.sort_unstable();
    assert_eq!(backwards, forwards);
}

#[test]
fn what_a_line_says_and_what_a_view_says_is_the_same() {
    for mut view in [killed(3, 7), refused(4, "unix:/run/a\u{1b}.sock"), fixture::view(&fixture::accepted())]
    {
        view.alternatives = vec![Cause::FirewallRejected];
        if let Some(culprit) = &mut view.culprit {
            culprit.killed_by = Some(ProcessView { pid: 1, comm: "sh\"x".to_owned() });
        }
        let line = view.to_json();
        assert_eq!(Seen::parse(&line).unwrap(), Seen::from(&view));
    }
    assert!(Seen::parse("{}").is_err());
}

#[test]
fn a_report_reads_back() {
    let mut builder = Builder::default();
    incident().iter().for_each(|view| builder.add(view));
    let report = builder.finish(asked(None), None, Some(state()));
    assert_eq!(serde_json::from_str::<Report>(&report.to_json()).unwrap(), report);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!((&json["schema"], &json["kind"]), (&1.into(), &"report".into()));
}

fn state() -> StateView {
    let timeout = |waited_for| TimeoutView { waited_for, age_ms: 4001.0, times: 14, of: 15 };
    let listener = |listening| ListenerState {
        listening,
        ceased: Some(at(38)),
        process: Some(ListenerProcess {
            pid: 991,
            comm: "api".to_owned(),
            started: rounded(-3600),
            exit: Some(ExitView { code: Some(2), signal: None, oom: false }),
        }),
    };
    let upstream = |upstream: &str| UpstreamState {
        upstream: upstream.to_owned(),
        scope: "host".to_owned(),
        upstream_timeout: Some(timeout(WaitedFor::Answer)),
        gateway_timeouts: vec![timeout(WaitedFor::Connect)],
        idle_limit_ms: Some(5003.2),
        listener: Some(listener(false)),
    };
    let upstreams = vec![upstream("10.0.3.9:8145")];
    StateView { upstreams, ..StateView::new("gw-1", at(120), at(-300)) }
}

#[test]
fn a_stale_registration_is_told_with_its_last_place_and_one_that_is_down_is_none() {
    let configured = |second, upstream: &str, line, state| {
        let registration = Registration {
            gateway: Proxy::Nginx,
            name: Some("api".to_owned()),
            weight: None,
            state,
            file: "/etc/nginx/api.conf".to_owned(),
            line: Some(line),
        };
        VerdictView { registration: Some(registration), ..refused(second, upstream) }
    };
    let views = [
        configured(0, "10.0.3.9:8145", 12, State::Active),
        configured(1, "10.0.3.9:8145", 14, State::Active),
        configured(2, "10.0.3.8:8145", 16, State::Down),
    ];
    let mut builder = Builder::default();
    for view in &views {
        builder.take(&Seen::parse(&view.to_json()).unwrap());
    }
    let told = builder.finish(asked(None), Some(&history(None, 0)), None);
    assert_eq!(told, {
        let mut whole = Builder::default();
        views.iter().for_each(|view| whole.add(view));
        whole.finish(asked(None), Some(&history(None, 0)), None)
    });
    let registered = |upstream: &str| {
        let stale = told.stale.iter().find(|stale| stale.upstream == upstream).unwrap();
        stale.registration.as_ref().and_then(|registration| registration.line)
    };
    assert_eq!((registered("10.0.3.9:8145"), registered("10.0.3.8:8145")), (Some(14), None));
    // It is wrapped.
    let page: String = page(&told).split_whitespace().collect();
    let words = "staleregistration:itisserver10.0.3.9:8145ofupstreamapiin/etc/nginx/api.conf:14";
    assert!(page.contains(words), "{page}");
}

#[test]
fn what_the_agent_has_learned_goes_with_it() {
    let mut builder = Builder::default();
    incident().iter().for_each(|view| builder.add(view));
    let report = builder.finish(asked(Some(at(-600))), Some(&history(Some(at(0)), 0)), Some(state()));
    // The agent began to see after what was asked for.
    assert_eq!(report.span.covered_since, Some(at(-300)));
    assert_eq!(report.stale[0].listener.as_ref().unwrap().ceased, Some(at(38)));
    let page = page(&report);
    for part in [
        "nothing listens since 13:03:45 (before: api[991], started 12:03:07, exited with code 2)",
        "gives up requests after 4.00 s (14 of the last 15)",
        "closes idle connections after 5.00 s: keep them for less (nginx: keepalive_timeout 4s)",
        "The agent started at 12:58:07",
    ] {
        let flat: String = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(part), "{part}\n{page}");
    }
}

#[test]
fn nothing_lost_is_said_with_since_when() {
    let nothing = |since, forgotten, oldest, state: Option<StateView>| {
        Builder::default().finish(asked(since), Some(&history(oldest, forgotten)), state).headline
    };
    assert_eq!(nothing(Some(at(-780)), 0, None, None), "Nothing was lost since 12:50:07 (15 min).");
    assert_eq!(nothing(Some(at(-780)), 0, None, Some(state())), "Nothing was lost since 12:58:07 (7 min).");
    assert_eq!(nothing(None, 0, None, Some(state())), "Nothing was lost since 12:58:07 (7 min).");
    assert_eq!(nothing(Some(at(-780)), 3, Some(at(60)), None), "Nothing was lost since 13:04:07 (1 min).");
    assert_eq!(nothing(None, 0, None, None), "Nothing was lost in what was kept.");
    let yesterday = nothing(Some(at(-86_400)), 0, None, None);
    assert_eq!(yesterday, "Nothing was lost since 2026-11-19 13:03:07 (1 d).");
}

#[test]
fn a_filter_is_not_passed_over_in_silence() {
    let mut asked = asked(Some(at(-60)));
    asked.selection.filter.cause = vec![Cause::OomKilled];
    let report = Builder::default().finish(asked, None, None);
    assert!(report.headline.starts_with("Nothing of what was asked for was lost"), "{}", report.headline);
}

#[test]
fn groups_are_bounded_and_the_rest_is_counted() {
    let views: Vec<_> =
        (0..9000u32).map(|n| refused(0, &format!("10.{}.{}.1:80", n / 250, n % 250))).collect();
    let report = report(&views);
    assert_eq!(report.groups.len(), 100);
    assert_eq!(report.others.losses, 8900);
    assert_eq!(report.others.impacts.connect_failed, 8900);
    assert_eq!(report.totals.losses, 9000);
    assert!(page(&report).lines().count() < 120);
}

#[test]
fn restarts_are_processes_that_began_after_one_had_ended() {
    let mut views = vec![killed(0, 1), killed(100, 2), killed(200, 3)];
    for (view, started) in views.iter_mut().zip([-3600, 1, 101]) {
        view.culprit.as_mut().unwrap().started = Some(at(started));
    }
    let report = report(&views);
    let program = &report.programs[0];
    assert_eq!((program.part, program.processes, program.ended, program.restarts), (Part::Culprit, 3, 3, 2));
    assert_eq!(program.latest.iter().map(|i| i.pid).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(report.programs[1].part, Part::Owner);
    let page = page(&report);
    assert!(page.contains("php-fpm: 3 processes, 3 ended, restarted 2 times"), "{page}");
    assert!(page.contains("[1] started 12:03:07"), "{page}");
}

#[test]
fn a_burst_in_a_long_time_is_a_finding() {
    let views: Vec<_> = (0..100).map(|n| killed(if n == 0 { 0 } else { 600 }, 7)).collect();
    let report = report(&views);
    assert!(report.timeline.losses.len() <= 60);
    assert_eq!(report.timeline.losses.iter().sum::<u64>(), 100);
    assert!(
        report.findings.iter().any(|f| f.starts_with("99 % of them fell within")),
        "{:?}",
        report.findings
    );
}

#[test]
fn the_page_fits_the_terminal_and_escapes_what_is_hostile() {
    let mut views = incident();
    views[0].summary = "\u{1b}]0;owned\u{7} and a very long sentence that goes on and on ".repeat(9);
    for view in &mut views {
        view.culprit.iter_mut().for_each(|culprit| culprit.comm = "\u{1b}[2Jx".to_owned());
    }
    let report = report(&views);
    let text = page(&report);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.lines().all(|line| textwrap::core::display_width(line) <= 80), "{text}");
}

proptest::proptest! {
    #[test]
    fn any_verdicts_give_a_page(seconds in proptest::collection::vec(-40_000_000i64..40_000_000, 0..40), columns in 0usize..200) {
        let views: Vec<_> = seconds.iter().map(|at| killed(*at, u32::try_from(at.rem_euclid(5)).unwrap())).collect();
        let report = report(&views);
        proptest::prop_assert_eq!(report.timeline.losses.iter().sum::<u64>(), views.len() as u64);
        let text = Page::new(&report, TimeZone::UTC, Some(columns)).text();
        proptest::prop_assert!(!text.is_empty());
    }
}

/// The verdicts of an incident at some hundred upstreams, as an agent keeps them.
#[tokio::test]
async fn fifty_thousand_verdicts_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let server = Server::bind(&path).unwrap();
    let hub = Hub::default();
    let verdict = fixture::oom_killed();
    for n in 0..50_000u32 {
        let mut view = killed(i64::from(n / 100), 4000 + n % 300);
        view.upstream = Some(format!("10.0.3.{}:9000", n % 200));
        hub.publish(&verdict, &Arc::new(view));
    }
    let ready = || Ready::new(0, &fixture::origin(), Vec::new(), Vec::new());
    let audit = || AuditView::new(audit::Report::default(), &fixture::origin(), |_| String::new());
    let task = tokio::spawn(server.serve(hub, ready, audit, Asker::new().0));
    let start = Instant::now();
    let mut builder = Builder::default();
    let take = |line: &str| {
        builder.take(&Seen::parse(line)?);
        Ok(())
    };
    let client = Client::connect(&path).await.unwrap();
    let told = client.history_lines(Selection::default(), take).await.unwrap();
    let report = builder.finish(asked(None), Some(&told.history), None);
    let page = page(&report);
    eprintln!("a report of {} verdicts took {:?}", report.totals.losses, start.elapsed());
    assert_eq!((report.totals.losses, report.totals.upstreams), (50_000, 200));
    assert!(page.contains("50000 requests lost"), "{page}");
    // 300 ms in a release build; this one may be a debug build on a busy machine.
    assert!(start.elapsed() < Duration::from_secs(60));
    task.abort();
}
