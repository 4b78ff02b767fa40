use tracer_ebpf::wire::{AlikeKey, kind, outcome, phase, tally};

use super::*;
use crate::event::{Exit, Target};
use crate::output::fixture;
use crate::verdict::{By, Cause};

#[derive(Default)]
struct Kernel(Mutex<KernelSnapshot>);

impl Source for Kernel {
    fn snapshot(&self) -> KernelSnapshot {
        self.0.lock().unwrap().clone()
    }

    fn upstreams_in_use(&self) -> u64 {
        self.upstreams().len() as u64
    }

    fn upstreams(&self) -> Vec<(UpstreamKey, UpstreamCounters)> {
        self.snapshot().upstreams
    }

    fn expire(&self, upstream: &UpstreamKey) -> Option<UpstreamCounters> {
        let mut snapshot = self.0.lock().unwrap();
        let at = snapshot.upstreams.iter().position(|(key, _)| key == upstream)?;
        Some(snapshot.upstreams.swap_remove(at).1)
    }

    fn alike(&self) -> Vec<(AlikeKey, u64)> {
        vec![]
    }

    fn forget_alike(&self, _: &AlikeKey) -> Option<u64> {
        None
    }

    fn scope(&self, netns: u32) -> String {
        if netns == 7 { "pod-a".to_owned() } else { "host".to_owned() }
    }
}

fn key(last: u8, netns: u32, port: u32) -> UpstreamKey {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 3, last]);
    UpstreamKey { address, netns, port }
}

fn with(snapshot: KernelSnapshot) -> Metrics {
    let metrics = Metrics::default();
    metrics.set_source(Box::new(Kernel(Mutex::new(snapshot))));
    metrics
}

/// The value of the sample that is spelled so.
fn value(metrics: &Metrics, sample: &str) -> Option<f64> {
    let text = metrics.exposition().unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

fn judge(metrics: &Metrics, verdict: &Verdict) {
    metrics.judged(verdict, &fixture::view(verdict));
}

#[test]
fn the_kernels_counters_are_shown_by_upstream() {
    let mut counters = UpstreamCounters::default();
    counters.connections[outcome::REFUSED] = 100_000;
    counters.resets_received[phase::CONNECT] = 99_999;
    counters.fins_sent[phase::ANSWERED] = 5;
    counters.unclassified = 3;
    let metrics = with(KernelSnapshot { upstreams: vec![(key(7, 1, 9000), counters)], ..Default::default() });
    for (sample, expected) in [
        (
            r#"rstrace_upstream_connections_total{outcome="refused",scope="host",upstream="10.0.3.7:9000"}"#,
            100_000.0,
        ),
        (
            r#"rstrace_upstream_connections_total{outcome="established",scope="host",upstream="10.0.3.7:9000"}"#,
            0.0,
        ),
        (
            r#"rstrace_upstream_resets_total{direction="received",phase="connect",scope="host",upstream="10.0.3.7:9000"}"#,
            99_999.0,
        ),
        (
            r#"rstrace_upstream_fins_total{direction="sent",phase="answered",scope="host",upstream="10.0.3.7:9000"}"#,
            5.0,
        ),
        (
            r#"rstrace_upstream_aborts_total{by="unknown",cause="unclassified",impact="unknown",scope="host",upstream="10.0.3.7:9000"}"#,
            3.0,
        ),
    ] {
        assert_eq!(value(&metrics, &sorted(sample)), Some(expected), "{sample}");
    }
}

/// Label names in the order in which they are written: that of the definition.
fn sorted(sample: &str) -> String {
    let (name, rest) = sample.split_once('{').unwrap();
    let labels: BTreeMap<_, _> =
        rest.trim_end_matches('}').split(',').map(|l| l.split_once('=').unwrap()).collect();
    let definition = definitions::DEFINITIONS.iter().find(|d| d.name == name).unwrap();
    let labels: Vec<_> = definition.labels.iter().map(|l| format!("{l}={}", labels[l])).collect();
    format!("{name}{{{}}}", labels.join(","))
}

#[test]
fn one_upstream_in_several_namespaces_of_one_scope_is_summed() {
    let mut counters = UpstreamCounters::default();
    counters.connections[outcome::ESTABLISHED] = 2;
    let upstreams = vec![(key(7, 1, 80), counters), (key(7, 2, 80), counters), (key(7, 7, 80), counters)];
    let metrics = with(KernelSnapshot { upstreams, ..Default::default() });
    let sample = |scope| {
        format!(
            r#"rstrace_upstream_connections_total{{upstream="10.0.3.7:80",scope="{scope}",outcome="established"}}"#
        )
    };
    assert_eq!(value(&metrics, &sample("host")), Some(4.0));
    assert_eq!(value(&metrics, &sample("pod-a")), Some(2.0));
}

#[test]
fn what_an_upstream_cannot_have_yet_is_not_shown() {
    let mut counters = UpstreamCounters::default();
    counters.connections[outcome::REFUSED] = 1;
    let series = |counters| {
        let metrics =
            with(KernelSnapshot { upstreams: vec![(key(7, 1, 80), counters)], ..Default::default() });
        let text = metrics.exposition().unwrap();
        text.lines().filter(|line| line.contains(r#"{upstream="10.0.3.7:80",scope="host""#)).count()
    };
    assert_eq!(series(counters), 5 + 2 + 2 + 1);
    counters.connections[outcome::ESTABLISHED] = 1;
    assert_eq!(series(counters), 5 + 8 + 8 + 1);
}

#[test]
fn the_idle_limit_is_shown_once_it_repeats() {
    let idle = |idle| {
        let mut counters = UpstreamCounters::default();
        counters.ages.idle = idle;
        counters
    };
    let upstreams = vec![
        (key(7, 1, 80), idle([1251, 1250, 100, 1252, 0, 0, 0, 0])),
        // Another namespace of the same scope: its shorter limit is the one to stay below.
        (key(7, 2, 80), idle([500; 8])),
        (key(8, 1, 80), idle([1251, 1250, 100, 900, 0, 0, 0, 0])),
        (UpstreamKey::default(), idle([500; 8])),
    ];
    let metrics = with(KernelSnapshot { upstreams: upstreams[..1].to_vec(), hz: 250, ..Default::default() });
    let name = "rstrace_upstream_idle_limit_seconds";
    let sample = format!(r#"{name}{{upstream="10.0.3.7:80",scope="host"}}"#);
    assert_eq!(value(&metrics, &sample), Some(5.0));
    let metrics = with(KernelSnapshot { upstreams, hz: 250, ..Default::default() });
    assert_eq!(value(&metrics, &sample), Some(2.0));
    let text = metrics.exposition().unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with(name)).count(), 1, "{text}");
}

#[test]
fn verdicts_that_harmed_somebody_are_counted_with_their_ages() {
    let metrics = Metrics::default();
    judge(&metrics, &fixture::oom_killed());
    judge(&metrics, &Verdict { impact: Impact::None, cause: Cause::Graceful, ..fixture::oom_killed() });
    judge(&metrics, &Verdict { impact: Impact::None, cause: Cause::IdleClose, ..fixture::oom_killed() });
    judge(&metrics, &Verdict { by: By::Client, ..fixture::accepted() });
    let abort = r#"rstrace_upstream_aborts_total{by="upstream",cause="oom_killed",impact="request_lost",scope="host",upstream="10.0.3.7:9000"}"#;
    assert_eq!(value(&metrics, abort), Some(1.0), "{}", metrics.exposition().unwrap());
    let listener = r#"rstrace_listener_aborts_total{cause="oom_killed",impact="request_lost",listener="10.0.1.2:43210",scope="host"}"#;
    assert_eq!(value(&metrics, listener), Some(1.0));
    let age = |le: &str| {
        value(
            &metrics,
            &format!(
                r#"rstrace_abort_request_age_seconds_bucket{{by="upstream",cause="oom_killed",le="{le}"}}"#
            ),
        )
    };
    assert_eq!((age("1"), age("2.5"), age("+Inf")), (Some(0.0), Some(1.0), Some(1.0)));
    assert_eq!(value(&metrics, "rstrace_idle_close_age_seconds_count"), Some(1.0));
}

#[test]
fn what_was_lost_is_told_by_where() {
    let mut tally = vec![0; tally::COUNT as usize];
    tally[(tally::LOST + u32::from(kind::SOCKET_END)) as usize] = 40;
    tally[(tally::LOST + u32::from(kind::LISTENER)) as usize] = 2;
    tally[tally::STORAGE_FAILED as usize] = 9;
    tally[tally::UPSTREAM_OVERFLOW as usize] = 11;
    let metrics = with(KernelSnapshot { tally, recursion_misses: 5, ..Default::default() });
    metrics.undecodable();
    for (sample, expected) in [
        (r#"rstrace_events_lost_total{stage="ring"}"#, 42.0),
        (r#"rstrace_events_lost_total{stage="recursion"}"#, 5.0),
        (r#"rstrace_events_lost_total{stage="undecodable"}"#, 1.0),
        (r#"rstrace_events_lost_total{stage="socket_storage"}"#, 9.0),
        (r#"rstrace_table_evicted_total{table="upstreams"}"#, 11.0),
    ] {
        assert_eq!(value(&metrics, sample), Some(expected), "{sample}");
    }
}

#[test]
fn upstreams_beyond_the_bound_are_counted_as_other() {
    let mut counters = UpstreamCounters::default();
    counters.connections[outcome::ESTABLISHED] = 1;
    let mut upstreams: Vec<_> = (0..2010).map(|port| (key(7, 1, port + 1), counters)).collect();
    upstreams.push((UpstreamKey::default(), counters));
    let metrics = with(KernelSnapshot { upstreams, ..Default::default() });
    let sample = |scope| {
        format!(
            r#"rstrace_upstream_connections_total{{upstream="other",scope="{scope}",outcome="established"}}"#
        )
    };
    for _ in 0..2 {
        assert_eq!(value(&metrics, &sample("host")), Some(10.0));
        assert_eq!(value(&metrics, &sample("other")), Some(1.0));
        assert_eq!(value(&metrics, r#"rstrace_label_overflow_total{label="upstream"}"#), Some(10.0));
    }
}

#[test]
fn a_hostile_name_cannot_break_the_exposition() {
    let metrics = Metrics::default();
    let mut process = fixture::process(1, "a\"\\\n}b 1");
    process.exit = Some(Exit { code: None, signal: Some(11), oom: false });
    metrics.exited(&process);
    let sample = r#"rstrace_process_exits_total{comm="a\"\\\n}b 1",reason="SIGSEGV"}"#;
    assert_eq!(value(&metrics, sample), Some(1.0));
}

#[test]
fn exits_are_told_by_how() {
    let metrics = Metrics::default();
    for (exit, reason) in [
        (Some(Exit { code: Some(0), signal: None, oom: false }), "success"),
        (Some(Exit { code: Some(3), signal: None, oom: false }), "failure"),
        (Some(Exit { code: None, signal: Some(9), oom: true }), "oom_killed"),
        (Some(Exit { code: None, signal: Some(9), oom: false }), "SIGKILL"),
        (None, "unknown"),
    ] {
        let process = Process { exit, ..fixture::process(1, "api") };
        metrics.exited(&process);
        let sample = format!(r#"rstrace_process_exits_total{{comm="api",reason="{reason}"}}"#);
        assert_eq!(value(&metrics, &sample), Some(1.0), "{reason}");
    }
}

#[test]
fn the_agents_own_state_is_shown() {
    let metrics = with(KernelSnapshot {
        programs: vec![ProgramUse { name: "set_state".to_owned(), runs: 4, seconds: 0.5 }],
        process: Some(ProcessUse { resident_bytes: 1 << 20, ..Default::default() }),
        ..Default::default()
    });
    metrics.set_table(Fill { table: "connections", entries: 1, capacity: 2, evicted: 3 });
    metrics.set_hooks(vec![
        HookView { hook: "tcp_fin".to_owned(), how: Some("fentry".to_owned()), attached: true },
        HookView { hook: "mark_victim".to_owned(), how: None, attached: false },
    ]);
    metrics.dropped("socket", 1);
    for (sample, expected) in [
        (r#"rstrace_table_entries{table="connections"}"#, 1.0),
        (r#"rstrace_table_capacity{table="connections"}"#, 2.0),
        (r#"rstrace_table_evicted_total{table="connections"}"#, 3.0),
        (r#"rstrace_hook_attached{hook="tcp_fin",how="fentry"}"#, 1.0),
        (r#"rstrace_hook_attached{hook="mark_victim",how="none"}"#, 0.0),
        (r#"rstrace_events_dropped_total{sink="socket"}"#, 1.0),
        (r#"rstrace_events_dropped_total{sink="stdout"}"#, 0.0),
        (r#"rstrace_events_received_total{kind="socket_end"}"#, 0.0),
        (r#"rstrace_program_runs_total{program="set_state"}"#, 4.0),
        (r#"rstrace_program_seconds_total{program="set_state"}"#, 0.5),
        ("process_resident_memory_bytes", 1_048_576.0),
    ] {
        assert_eq!(value(&metrics, sample), Some(expected), "{sample}");
    }
}

#[test]
fn every_family_has_its_help_and_type() {
    let text = with(KernelSnapshot::default()).exposition().unwrap();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        assert!(text.contains(&format!("# TYPE {family} ")), "{family}");
    }
}

#[test]
fn idle_upstreams_end_and_other_never_falls() {
    let mut counters = UpstreamCounters::default();
    counters.connections[outcome::REFUSED] = 1;
    let rows = (1..=3000).map(|port| (key(7, 0, port), counters)).collect();
    let metrics = with(KernelSnapshot { upstreams: rows, hz: 250, ..KernelSnapshot::default() });
    let upstream = Target::Tcp(([10, 0, 3, 7], 80).into());
    let verdict =
        Verdict { impact: Impact::ConnectFailed, upstream: Some(upstream), ..fixture::oom_killed() };
    metrics.judged(&verdict, &fixture::shared(&verdict));
    let sum = |name: &str, label: &str| {
        let text = metrics.exposition().unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>()
    };
    let connections = |label| sum("rstrace_upstream_connections_total{", label);
    let aborts = || sum("rstrace_upstream_aborts_total{", "upstream=\"10.0.3.7:80\"");
    let others = connections("upstream=\"other\"");
    assert!(others >= 1500.0, "{others}");
    metrics.sweep(1);
    assert_eq!((connections(""), aborts()), (3000.0, 1.0));
    metrics.sweep(3_600_000_000_000);
    assert_eq!(connections("upstream=\"other\",scope=\"host\""), others, "other fell");
    assert_eq!((connections(""), aborts()), (others, 0.0));
    assert_eq!(sum("rstrace_upstreams_expired_total", ""), 3000.0);
    assert_eq!(value(&metrics, "rstrace_table_entries{table=\"upstreams\"}"), Some(0.0));
}
