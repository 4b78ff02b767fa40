//! Verdicts as OpenTelemetry logs: what arrives, what becomes of it while the collector is away, and what is refused.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary, free_port};
use rstrace_tests::clickhouse;
use rstrace_tests::collector::{Collector, Record};
use rstrace_tests::netns::{Family, Link, Net, require_root, unique_port};
use rstrace_tests::process::{poll, run_within};
use rstrace_tests::scene::{Plan, Watcher, play};
use serde_json::{Map, Value, json};

const DROPPED: &str = "rstrace_events_dropped_total";
const OTLP: [(&str, &str); 1] = [("sink", "otlp")];
/// Connections that break while nobody takes the logs: more than wait in the queue and in the request under way.
const BREAKS: u16 = 6000;
/// What the agent may hold more then, in kB of anonymous memory: the queue, the history, and its tables.
const MORE_KB: u64 = 60_000;

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
        let line = agent.wait_for(&upstream, Duration::from_secs(5), is_it)?.json;
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
fn with_a_dead_collector_verdicts_go_on_and_what_is_left_out_is_counted() -> Result<()> {
    require_root()?;
    let net = Net::create(Link::Loopback, Family::V4)?;
    let url = format!("http://{}", free_port()?);
    let mut agent = Agent::start_with(&["--otlp", &url])?;
    let before = agent.anonymous_kb()?;
    let port = unique_port();
    // Each address is refused once: no two verdicts are alike.
    net.gateway().enter(|| -> Result<()> {
        for number in 0..BREAKS {
            let [high, low] = number.to_be_bytes();
            let address = SocketAddr::from((Ipv4Addr::new(127, 9, high, low), port));
            ensure!(TcpStream::connect(address).is_err(), "{address} answered");
        }
        Ok(())
    })??;
    let mut dropped = 0.0;
    let counted = poll("a count of what was left out", Duration::from_secs(20), || {
        dropped = agent.scrape().ok()?.sum(DROPPED, &OTLP);
        (dropped > 0.0).then_some(())
    });
    counted?;
    // The live stream has gone on to the last of them.
    let [high, low] = (BREAKS - 1).to_be_bytes();
    let last = format!("127.9.{high}.{low}:{port}");
    agent.wait_for(&last, Duration::from_secs(10), |line| line["upstream"] == last.as_str())?;
    let more = agent.anonymous_kb()?.saturating_sub(before);
    eprintln!("with a dead collector: {dropped} dropped, {more} kB more than before");
    ensure!(more < MORE_KB, "{more} kB more than before");
    ensure!(agent.stderr().contains("the collector takes no logs"), "no word of it: {}", agent.stderr());
    agent.signal(libc::SIGTERM);
    let status = agent.wait(Duration::from_secs(10))?;
    ensure!(status.code() == Some(0), "ended with {status}");
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
