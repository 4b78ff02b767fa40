use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::output::fixture;

const CONTRACT: &str = r#"{"schema":1,"kind":"verdict","time":"2026-11-20T12:03:07.412345678Z","host":"gw-1","netns":4026532246,"scope":"host","role":"client","upstream":"10.0.3.7:9000","upstream_name":null,"upstream_pod":null,"upstream_endpoint":null,"registration":null,"listener":null,"local":"10.0.1.2:43210","peer":"10.0.3.7:9000","by":"upstream","cause":"oom_killed","impact":"request_lost","confidence":"proven","alternatives":[],"how":"fin_received","rst_reason":null,"owner":{"pid":812,"comm":"nginx","cgroup":"/system.slice/nginx.service","container":null,"started":"2026-11-20T12:03:05.42Z","pod":null},"culprit":{"pid":4242,"comm":"php-fpm","exit":{"code":null,"signal":"SIGKILL","oom":true},"killed_by":null,"started":"2026-11-20T12:03:05.42Z","cgroup":"/system.slice/nginx.service","container":null,"pod":null},"connection":{"cookie":9182,"age_ms":5210.2,"bytes_sent":312,"bytes_received":0,"since_request_ms":1204.1,"reused":true,"retransmits":0,"srtt_us":180},"join":{"key":"10.0.1.2:43210-10.0.3.7:9000","end_seq":3141592653},"evidence":["php-fpm[4242] ended by SIGKILL"],"summary":"nginx[812] lost a request"}"#;

#[test]
fn a_verdict_is_spelled_as_the_contract_says() {
    assert_eq!(fixture::view(&fixture::oom_killed()).to_json(), CONTRACT);
}

#[test]
fn what_is_not_known_is_null_and_no_key_goes_missing() {
    let mut verdict = fixture::accepted();
    verdict.local = None;
    verdict.peer = None;
    verdict.owner = None;
    verdict.culprit = None;
    verdict.connection.age_ms = None;
    verdict.connection.bytes_sent = None;
    verdict.connection.end_seq = None;
    let json: Value = serde_json::from_str(&fixture::view(&verdict).to_json()).unwrap();
    for key in ["upstream", "local", "peer", "owner", "culprit", "rst_reason"] {
        assert_eq!(json.get(key), Some(&Value::Null), "{key}");
    }
    assert_eq!(json["listener"], "10.0.1.2:43210");
    assert_eq!(json["connection"].get("age_ms"), Some(&Value::Null));
    assert_eq!(json["join"], serde_json::json!({"key": null, "end_seq": null}));
    assert_eq!(json.as_object().unwrap().len(), 28);
}

#[test]
fn both_ends_of_a_connection_have_one_key() {
    let mut verdict = fixture::oom_killed();
    let key = |verdict: &Verdict| fixture::view(verdict).join.key;
    let near = key(&verdict);
    std::mem::swap(&mut verdict.local, &mut verdict.peer);
    assert_eq!(key(&verdict), near);
    // (A port alone decides as well, and as a number: 900 comes before 8000.)
    verdict.local = "[::1]:8000".parse().ok();
    verdict.peer = "[::1]:900".parse().ok();
    assert_eq!(key(&verdict).as_deref(), Some("[::1]:900-[::1]:8000"));
    // A resolver is no upstream.
    verdict.upstream = Some(Target::Dns("backend.example".to_owned()));
    assert_eq!(key(&verdict), None);
}

#[test]
fn the_start_of_a_process_is_told_to_the_hundredth_of_a_second_or_not_at_all() {
    let origin = Origin { boot_offset_ns: 1_795_176_180_000_000_000, ..fixture::origin() };
    let started = |start_boottime| {
        let process = Process { start_boottime, ..fixture::process(7, "x") };
        origin.start_of(&process).map(|time| time.to_string())
    };
    assert_eq!(started(1_004_999_999).as_deref(), Some("2026-11-20T12:03:01Z"));
    assert_eq!(started(1_005_000_000).as_deref(), Some("2026-11-20T12:03:01.01Z"));
    assert_eq!(started(0), None);
    assert_eq!(started(u64::MAX).as_deref(), Some("2611-06-11T11:37:33.71Z"));
}

#[test]
fn ipv6_addresses_stand_in_brackets() {
    let mut verdict = fixture::oom_killed();
    verdict.upstream = "[2001:db8::7]:9000".parse::<SocketAddr>().ok().map(Target::Tcp);
    let view = fixture::view(&verdict);
    assert_eq!(view.upstream.as_deref(), Some("[2001:db8::7]:9000"));
}

#[test]
fn paths_and_names_say_what_they_are() {
    for (target, text) in [
        (Target::Unix("/run/php/php-fpm.sock".to_owned()), "unix:/run/php/php-fpm.sock"),
        (Target::Unix("@abstract".to_owned()), "unix:@abstract"),
        (Target::Dns("backend.example".to_owned()), "dns:backend.example"),
    ] {
        let verdict = Verdict { upstream: Some(target), ..fixture::oom_killed() };
        assert_eq!(fixture::view(&verdict).upstream.as_deref(), Some(text));
    }
}

#[test]
fn a_configured_server_has_its_name_and_place() {
    let verdict = Verdict { upstream: Some(Target::Tcp(fixture::CONFIGURED)), ..fixture::oom_killed() };
    let json = fixture::view(&verdict).to_json();
    let part = r#""upstream":"10.0.3.8:9000","upstream_name":"api","upstream_pod":null,"upstream_endpoint":null,"registration":{"gateway":"nginx","name":"api","weight":5,"state":"active","file":"/etc/nginx/conf.d/api.conf","line":12},"listener":null"#;
    assert!(json.contains(part), "{json}");
    assert!(!json.contains("stale"), "{json}");
}

#[test]
fn a_configured_server_that_refuses_is_a_stale_registration() {
    let mut verdict = Verdict {
        upstream: Some(Target::Tcp(fixture::CONFIGURED)),
        cause: Cause::NoListener,
        summary: "nothing listens on 10.0.3.8:9000".to_owned(),
        evidence: vec![],
        ..fixture::oom_killed()
    };
    let place = "it is server 10.0.3.8:9000 of upstream api in /etc/nginx/conf.d/api.conf:12";
    let view = fixture::view(&verdict);
    assert_eq!(view.summary, format!("nothing listens on 10.0.3.8:9000; stale registration: {place}"));
    assert_eq!(view.evidence, [format!("stale registration: {place}, and nothing listens there")]);
    verdict.listened_until_ns = Some(fixture::KTIME - 400_000_000);
    let since = "nothing has listened there since 2026-11-20T12:03:07.012Z";
    assert_eq!(fixture::view(&verdict).evidence, [format!("stale registration: {place}, and {since}")]);
    verdict.upstream = Some(Target::Tcp("10.0.3.7:9000".parse().unwrap()));
    assert_eq!(fixture::view(&verdict).summary, "nothing listens on 10.0.3.8:9000");
}

#[test]
fn the_reset_reason_has_the_kernels_name_or_else_its_number() {
    let mut verdict = fixture::oom_killed();
    verdict.rst_reason = Some(fixture::KNOWN_REASON);
    assert_eq!(fixture::view(&verdict).rst_reason.as_deref(), Some("NO_SOCKET"));
    verdict.rst_reason = Some(77);
    assert_eq!(fixture::view(&verdict).rst_reason.as_deref(), Some("77"));
}

#[test]
fn the_pod_of_the_culprit_is_told_and_stands_in_the_summary() {
    let mut verdict = fixture::oom_killed();
    verdict.culprit.as_mut().unwrap().process.cgroup_id = fixture::POD_CGROUP;
    let view = fixture::view(&verdict);
    assert_eq!(view.owner.unwrap().pod, None);
    let culprit = view.culprit.unwrap();
    assert_eq!(culprit.container.as_deref(), Some("cd".repeat(32).as_str()));
    let pod = serde_json::to_string(&culprit.pod).unwrap();
    let expected = format!(
        r#"{{"namespace":"shop","name":"api-66b6c48dd5-gz5nx","uid":"{}","container":"php-fpm","workload":"deployment/api"}}"#,
        fixture::POD_UID
    );
    assert_eq!(pod, expected);
    assert_eq!(view.summary, "nginx[812] lost a request; php-fpm[4242] is of pod shop/api-66b6c48dd5-gz5nx");
}

#[test]
fn the_container_comes_from_the_cgroup() {
    let mut verdict = fixture::oom_killed();
    if let Some(owner) = &mut verdict.owner {
        owner.cgroup_id = fixture::CONTAINER_CGROUP;
    }
    let owner = fixture::view(&verdict).owner.unwrap();
    assert_eq!(owner.container.as_deref(), Some("ab".repeat(32).as_str()));
}

#[test]
fn control_characters_do_not_leave_in_json() {
    let mut verdict = fixture::oom_killed();
    if let Some(owner) = &mut verdict.owner {
        owner.comm = "a\u{1b}[2J\u{9b}\u{7f}\"".to_owned();
    }
    let line = fixture::view(&verdict).to_json();
    assert!(!line.contains(char::is_control), "{line}");
    let Line::Verdict(back) = Line::parse(&line).unwrap() else { panic!("no verdict: {line}") };
    assert_eq!(back.owner.unwrap().comm, "a\u{1b}[2J\u{9b}\u{7f}\"");
}

#[test]
fn the_other_lines_say_what_they_are() {
    let origin = fixture::origin();
    let hooks = vec![HookView { hook: "tcp_fin".to_owned(), how: None, attached: false }];
    let ready = Ready::new(fixture::KTIME, &origin, hooks, vec!["unix".to_owned()]);
    assert_eq!(
        ready.to_json(),
        format!(
            r#"{{"schema":1,"kind":"ready","time":"2026-11-20T12:03:07.412345678Z","host":"gw-1","version":"{}","hooks":[{{"hook":"tcp_fin","how":null,"attached":false}}],"groups":["unix"]}}"#,
            env!("CARGO_PKG_VERSION")
        )
    );
    let omitted = Omitted::new(7, "slow reader");
    assert_eq!(omitted.to_json(), r#"{"schema":1,"kind":"omitted","count":7,"why":"slow reader"}"#);
    assert_eq!(Line::parse(&ready.to_json()).unwrap(), Line::Ready(ready));
    assert_eq!(Line::parse(&omitted.to_json()).unwrap(), Line::Omitted(omitted));
    assert!(Line::parse(r#"{"kind":"tale"}"#).is_err());
    assert!(Line::parse("").is_err());
}

proptest! {
    #[test]
    fn every_clock_gives_a_time_that_reads_back(ktime in any::<u64>(), offset in any::<i64>()) {
        let mut verdict = fixture::oom_killed();
        verdict.ktime_ns = ktime;
        let origin = Origin { clock_offset_ns: offset, ..fixture::origin() };
        let view = VerdictView::new(&verdict, &fixture::FixedNames, &origin);
        prop_assert_eq!(view.time.as_nanosecond(), i128::from(ktime) + i128::from(offset));
        prop_assert_eq!(Line::parse(&view.to_json()).unwrap(), Line::Verdict(Box::new(view)));
    }
}

#[test]
fn an_upstream_without_a_configured_name_has_that_of_its_service() {
    let of = |address| {
        let upstream = Some(Target::Tcp(address));
        fixture::view(&Verdict { upstream, ..fixture::oom_killed() })
    };
    let served = of(fixture::SERVED);
    assert_eq!(served.upstream_name.as_deref(), Some("shop/api"));
    assert_eq!(served.upstream_pod.as_deref(), Some("shop/api-66b6c48dd5-gz5nx"));
    // The gateway's own word comes first.
    assert_eq!(of(fixture::CONFIGURED).upstream_name.as_deref(), Some("api"));
}
