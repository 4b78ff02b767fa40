//! Verdicts as OpenTelemetry logs: what arrives, and what is no collector. (`alone_otlp.rs` has none at all.)

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::clickhouse;
use rstrace_tests::collector::{Collector, Record};
use rstrace_tests::netns::{Family, Link, require_root};
use rstrace_tests::process::{poll, run_within};
use rstrace_tests::scene::{Plan, Watcher, play};
use serde_json::{Map, Value, json};

const DROPPED: &str = "rstrace_events_dropped_total";
const OTLP: [(&str, &str); 1] = [("sink", "otlp")];

#[test]
fn a_break_arrives_once_though_the_collector_refuses_at_first() -> Result<()> {
    require_root()?;
    let plan = Plan { watcher: Watcher::Nobody, ..Plan::default() };
    play(Link::Veth, Family::V4, &plan, |scene| {
        let collector = Collector::start(2)?;
        let mut agent = Agent::start_with(&["--otlp", &collector.url()])?;
        let upstream = scene.upstream();
        scene.demand("/segv", 502)?;
        let is_it = |line: &Value| line["kind"] == "verdict" && line["upstream"] == upstream.as_str();
        let line = agent.wait_for(&upstream, Duration::from_secs(20), is_it)?.json;
        let own = || -> Option<Vec<_>> {
            let mut records = collector.records().ok()?;
            records.retain(|record| record.attributes["rstrace.upstream"] == upstream.as_str());
            (!records.is_empty()).then_some(records)
        };
        let records = poll("the log record", Duration::from_secs(20), own)?;
        ensure!(records.len() == 1, "{} records of one connection", records.len());
        ensure!(collector.refused() == 2, "refused {} requests", collector.refused());
        about(&records[0].attributes, &line)?;
        let record = &records[0].record;
        ensure!(record.event_name == "rstrace.verdict", "event {:?}", record.event_name);
        let seconds = record.time_unix_nano / 1_000_000_000;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        ensure!(now.abs_diff(seconds) < 60, "told of {seconds} at {now}");
        let scrape = agent.scrape()?;
        ensure!(scrape.sum(DROPPED, &OTLP) == 0.0, "some were dropped");
        in_the_table_of_a_fleet(&records[0], &line)
    })
}

/// What a collector writes of the record becomes an event, by `otel.sql`. The row is made here as the collector's
/// exporter makes it: every attribute as text.
fn in_the_table_of_a_fleet(record: &Record, line: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let attributes = record.attributes.as_object().into_iter().flatten();
    let attributes: Map<String, Value> =
        attributes.map(|(key, value)| (key.clone(), text(value).into())).collect();
    let row = json!({
        "Timestamp": line["time"].as_str().map(|time| time.trim_end_matches('Z').replace('T', " ")),
        "ServiceName": "rstrace",
        "Body": line["summary"],
        "ResourceAttributes": attributes,
        "LogAttributes": attributes,
    });
    let event = clickhouse::fleet(&["otel"], &row.to_string())?.pop().context("no event")?;
    for key in ["host", "role", "by", "cause", "impact", "confidence", "summary"] {
        ensure!(event[key] == line[key], "{key} is {}, not {}", event[key], line[key]);
    }
    let [key, number] = ["key", "end_seq"].map(|key| &line["join"][key]);
    ensure!(
        event["join_key"] == *key && event["end_seq"] == *number,
        "not joined by {}: {event}",
        line["join"]
    );
    ensure!(event["address"] == line["upstream"], "{event}");
    Ok(())
}

/// The attributes say what the line says.
fn about(attributes: &Value, line: &Value) -> Result<()> {
    let (server, port) = line["peer"].as_str().and_then(|a| a.rsplit_once(':')).unwrap_or_default();
    for (key, value) in [
        ("service.name", &json!("rstrace")),
        ("host.name", &line["host"]),
        ("network.transport", &json!("tcp")),
        ("network.type", &json!("ipv4")),
        ("server.address", &json!(server)),
        ("server.port", &json!(port.parse::<u16>()?)),
        ("error.type", &json!("process_crashed")),
        ("process.executable.name", &json!("nginx")),
        ("process.pid", &line["owner"]["pid"]),
        ("rstrace.by", &json!("upstream")),
        ("rstrace.impact", &json!("request_lost")),
        ("rstrace.confidence", &line["confidence"]),
        ("rstrace.culprit.exit.signal", &json!("SIGSEGV")),
        ("rstrace.evidence", &line["evidence"]),
        ("rstrace.join.key", &line["join"]["key"]),
        ("rstrace.join.end_seq", &line["join"]["end_seq"]),
    ] {
        ensure!(!value.is_null() && attributes[key] == *value, "{key} is {}, not {value}", attributes[key]);
    }
    Ok(())
}

#[test]
fn what_is_no_collectors_url_is_wrong_usage() -> Result<()> {
    for (url, says) in
        [("collector:4318", "give the URL of a collector"), ("https://a", "https is not spoken")]
    {
        let mut command = Command::new(binary()?);
        let ended = run_within(command.args(["agent", "--otlp", url]), Duration::from_secs(10))?;
        ensure!(ended.code == Some(2) && ended.stderr.contains(says), "{ended:?}");
    }
    Ok(())
}
