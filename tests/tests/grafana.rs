//! The dashboard that `deploy/` ships: held to the rules of Grafana's dashboard-linter, and each expression asked of a real
//! Prometheus that has scraped a real agent. Grafana itself is not run.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::client::Request;
use rstrace_tests::netns::{Family, Link};
use rstrace_tests::nginx::GatewayOptions;
use rstrace_tests::process::poll;
use rstrace_tests::prometheus::{Prometheus, deployed};
use rstrace_tests::scene::{Plan, Scene, play};
use serde_json::Value;

const UNITS: [&str; 7] = ["short", "cps", "eps", "s", "bytes", "percentunit", "none"];

fn dashboard() -> Result<Value> {
    let text = fs::read_to_string(deployed("grafana/rstrace.json"))?;
    serde_json::from_str(&text).context("deploy/grafana/rstrace.json")
}

fn list<'a>(value: &'a Value, what: &str) -> Result<&'a Vec<Value>> {
    value.as_array().with_context(|| format!("no list of {what}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Panels with something in them: rows are only titles.
fn panels(dashboard: &Value) -> Result<Vec<&Value>> {
    let panels = list(&dashboard["panels"], "panels")?;
    Ok(panels.iter().filter(|panel| panel["type"] != "row").collect())
}

fn variable<'a>(dashboard: &'a Value, name: &str) -> Result<&'a Value> {
    let variables = list(&dashboard["templating"]["list"], "variables")?;
    variables.iter().find(|it| it["name"] == name).with_context(|| format!("there is no variable {name}"))
}

/// Title and target, of all panels.
fn targets(dashboard: &Value) -> Result<Vec<(&str, &Value)>> {
    let mut all = Vec::new();
    for panel in panels(dashboard)? {
        let targets = list(&panel["targets"], "targets")?;
        all.extend(targets.iter().map(|target| (text(panel, "title"), target)));
    }
    Ok(all)
}

fn expressions(dashboard: &Value) -> Result<Vec<(&str, &str)>> {
    Ok(targets(dashboard)?.into_iter().map(|(title, target)| (title, text(target, "expr"))).collect())
}

#[test]
fn variables_are_as_the_linter_wants_them() -> Result<()> {
    let dashboard = dashboard()?;
    let source = variable(&dashboard, "datasource")?;
    ensure!(source["type"] == "datasource" && source["query"] == "prometheus", "{source}");
    ensure!(source["label"] == "Data source", "{source}");
    let others = [("job", "Job"), ("instance", "Instance"), ("upstream", "Upstream")];
    for (name, label) in others {
        let variable = variable(&dashboard, name)?;
        ensure!(variable["type"] == "query" && variable["label"] == label, "{variable}");
        ensure!(variable["datasource"]["uid"] == "${datasource}", "{variable}");
        ensure!(variable["multi"] == true && variable["allValue"] == ".+", "{variable}");
        ensure!(variable["refresh"] == 2, "{name} is not asked again when the time changes");
        ensure!(text(&variable["query"], "query").starts_with("label_values(rstrace_"), "{variable}");
    }
    let all = list(&dashboard["templating"]["list"], "variables")?;
    ensure!(all.len() == 1 + others.len(), "{} variables", all.len());
    Ok(())
}

#[test]
fn the_dashboard_itself_is_as_the_linter_wants_it() -> Result<()> {
    let dashboard = dashboard()?;
    ensure!(
        dashboard["uid"] == "rstrace" && dashboard["id"].is_null(),
        "what is imported has no id, and a fixed uid"
    );
    ensure!(dashboard["editable"] == false, "what is provisioned cannot be edited");
    ensure!(dashboard.get("__inputs").is_none(), "__inputs are for grafana.com alone");
    Ok(())
}

#[test]
fn panels_are_as_the_linter_wants_them() -> Result<()> {
    let dashboard = dashboard()?;
    let mut ids = Vec::new();
    for panel in panels(&dashboard)? {
        let title = text(panel, "title");
        ensure!(!title.is_empty() && text(panel, "description").ends_with('.'), "{title:?} is not described");
        ensure!(panel["datasource"]["uid"] == "${datasource}", "{title} has another data source");
        ensure!(panel["datasource"]["type"] == "prometheus", "{title} has another data source");
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        ensure!(UNITS.contains(&unit), "{title} has the unit {unit:?}");
        let targets = list(&panel["targets"], title)?;
        ensure!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            ensure!(target["datasource"]["uid"] == "${datasource}", "{title} has another data source");
        }
    }
    for panel in list(&dashboard["panels"], "panels")? {
        let at = &panel["gridPos"];
        let [x, width] = ["x", "w"].map(|key| at[key].as_u64().unwrap_or(99));
        ensure!(x + width <= 24, "{} is beyond the edge", text(panel, "title"));
        ids.push(panel["id"].as_u64().context("a panel without an id")?);
    }
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == list(&dashboard["panels"], "panels")?.len(), "two panels have one id");
    Ok(())
}

/// Each `name{…}` and `name[…]` of an expression: the metric, its matchers, its range.
fn selectors(expression: &str) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    for (open, _) in expression.match_indices('{') {
        let before = &expression[..open];
        let start =
            before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').map_or(0, |at| at + 1);
        let rest = &expression[open + 1..];
        let (matchers, after) = rest.split_once('}').unwrap_or((rest, ""));
        let range = after.strip_prefix('[').and_then(|it| it.split_once(']')).map_or("", |(range, _)| range);
        found.push((&before[start..], matchers, range));
    }
    found
}

#[test]
fn expressions_are_as_the_linter_wants_them() -> Result<()> {
    let dashboard = dashboard()?;
    for (title, expression) in expressions(&dashboard)? {
        let selectors = selectors(expression);
        ensure!(!selectors.is_empty(), "{title}: {expression} has no matchers");
        for (metric, matchers, range) in selectors {
            for matcher in ["job=~\"$job\"", "instance=~\"$instance\""] {
                ensure!(matchers.contains(matcher), "{title}: {metric} without {matcher}");
            }
            ensure!(range.is_empty() || range == "$__rate_interval", "{title}: {metric} over [{range}]");
            let counts = metric.ends_with("_total")
                && !expression.contains(&format!("on (job, instance, counter) {metric}"));
            ensure!(
                !counts || range == "$__rate_interval",
                "{title}: {metric} is a counter, and shown as it is"
            );
        }
    }
    Ok(())
}

#[test]
fn each_metric_of_the_dashboard_is_exported_or_recorded() -> Result<()> {
    let documented = fs::read_to_string(deployed("../docs/metrics.md"))?;
    let recorded = fs::read_to_string(deployed("prometheus/rules.yaml"))?;
    for (title, expression) in expressions(&dashboard()?)? {
        for (metric, ..) in selectors(expression) {
            let known = match metric.trim_end_matches("_bucket") {
                // Prometheus has these of each target.
                "up" | "scrape_duration_seconds" | "scrape_samples_scraped" => true,
                record if record.contains(':') => recorded.contains(&format!("record: {record}\n")),
                exported => documented.contains(&format!("| `{exported}` |")),
            };
            ensure!(known, "{title}: nobody exports {metric}");
        }
    }
    Ok(())
}

/// Something of all that can be shown.
fn make_data(scene: &mut Scene) -> Result<()> {
    scene.demand("/ok", 200)?;
    scene.demand("/fence", 502)?;
    scene.demand("/reset", 502)?;
    // In the agent's own namespace, which is audited from the start.
    let nobody = rstrace_tests::agent::free_port()?;
    ensure!(std::net::TcpStream::connect(nobody).is_err(), "somebody listens on {nobody}");
    // A process that owned a socket and failed.
    let nowhere = format!("http://{}/", scene.fence());
    let curl = Request::start(scene.net().gateway(), &[&nowhere])?.finish(Duration::from_secs(10))?;
    ensure!(curl.code != 0, "{curl:?}");
    Ok(())
}

/// Idle connections that the upstream closes at an equal age.
fn make_an_idle_limit(scene: &mut Scene) -> Result<()> {
    let upstream = scene.upstream();
    let known = poll("an idle limit", Duration::from_secs(60), || {
        scene.demand("/idle/300", 200).ok()?;
        let scrape = scene.agent().and_then(|agent| agent.scrape()).ok()?;
        let limits =
            scrape.matching("rstrace_upstream_idle_limit_seconds", &[("upstream", &upstream)]).count();
        std::thread::sleep(Duration::from_millis(400));
        (limits > 0).then_some(())
    });
    known.context("the upstream's idle limit")
}

#[test]
fn each_expression_has_data_in_a_real_prometheus() -> Result<()> {
    let dashboard = dashboard()?;
    let gateway = GatewayOptions { keepalive: true, ..GatewayOptions::default() };
    play(Link::Veth, Family::V4, &Plan { gateway, ..Plan::default() }, |scene| {
        let prometheus = Prometheus::start(scene.agent()?.listen(), (Ipv4Addr::LOCALHOST, 9).into())?;
        let limit = Duration::from_secs(60);
        prometheus.wait_for("up{job=\"rstrace\"} == 1", limit)?;
        make_an_idle_limit(scene)?;
        // rate() shows what a series does after its first sample.
        make_data(scene)?;
        prometheus.wait_for("rstrace_upstream_aborts_total{cause=\"reset_without_response\"}", limit)?;
        prometheus.wait_for("rstrace_process_exits_total{comm=\"curl\",reason=\"failure\"}", limit)?;
        make_data(scene)?;
        let instance = scene.agent()?.listen().to_string();
        let mut asked = 0;
        for (title, target) in targets(&dashboard)? {
            let filled = filled(text(target, "expr"), &instance);
            ensure!(!filled.contains('$'), "{title}: {filled} has an unknown variable");
            let samples =
                prometheus.wait_for(&filled, limit).with_context(|| format!("{title:?} is empty"))?;
            for label in
                text(target, "legendFormat").split("{{").skip(1).filter_map(|it| it.split("}}").next())
            {
                let named = samples.iter().any(|sample| sample["metric"][label].is_string());
                ensure!(named, "{title}: the legend's {label} is no label of {filled}");
            }
            asked += 1;
        }
        for name in ["job", "instance", "upstream"] {
            let query = text(&variable(&dashboard, name)?["query"], "query").to_owned();
            let (selector, label) = query
                .strip_prefix("label_values(")
                .and_then(|it| it.strip_suffix(')'))
                .and_then(|it| it.rsplit_once(", "))
                .with_context(|| query.clone())?;
            let values = prometheus
                .wait_for(&format!("count by ({label}) ({})", filled(selector, &instance)), limit)?;
            ensure!(values.iter().all(|value| value["metric"][label].is_string()), "{query}: {values:?}");
        }
        eprintln!("{asked} expressions have data");
        Ok(())
    })
}

/// What Grafana asks: variables replaced, and no zero in place of nothing.
fn filled(expression: &str, instance: &str) -> String {
    let values = [
        ("$job", "rstrace"),
        ("$instance", instance),
        ("$upstream", ".+"),
        ("$__rate_interval", "1m"),
        (" or vector(0)", ""),
    ];
    values.into_iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}
