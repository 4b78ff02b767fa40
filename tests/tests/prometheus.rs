//! A real Prometheus scrapes a real agent with the rules that `deploy/` ships, and a real Alertmanager routes what they
//! find. Who is told at last are stand-ins (`receivers.rs`).

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::netns::{Family, Link};
use rstrace_tests::process::{Ended, poll, run_within};
use rstrace_tests::prometheus::{Alertmanager, Prometheus, deployed};
use rstrace_tests::receivers::{Message, Receiver};
use rstrace_tests::scene::{Plan, Scene, play};
use rstrace_tests::scrape::get;
use rstrace_tests::server::require_program;
use serde_json::Value;

/// Runs one of the tools in `deploy/prometheus`; it must have nothing to complain of.
fn clean(program: &str, arguments: &[&str]) -> Result<Ended> {
    require_program(program)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(deployed("prometheus"));
    let ended = run_within(&mut command, Duration::from_secs(60))?;
    ensure!(ended.code == Some(0), "{program} {arguments:?}: {}{}", ended.stdout, ended.stderr);
    Ok(ended)
}

#[test]
fn the_rules_have_no_lint() -> Result<()> {
    clean("promtool", &["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", "alerts.yaml"])
        .map(drop)
}

#[test]
fn each_alert_fires_and_is_silent_as_its_unit_test_says() -> Result<()> {
    let ended = clean("promtool", &["test", "rules", "alerts_test.yaml"])?;
    ensure!(ended.stdout.contains("SUCCESS"), "{}", ended.stdout);
    Ok(())
}

#[test]
fn the_configuration_of_prometheus_is_valid() -> Result<()> {
    clean("promtool", &["check", "config", "prometheus.yml"]).map(drop)
}

#[test]
fn the_configuration_of_alertmanager_is_valid() -> Result<()> {
    clean("amtool", &["check-config", "alertmanager.yml"]).map(drop)
}

#[test]
fn a_page_of_metrics_has_no_lint() -> Result<()> {
    played(|scene| {
        // What has no value yet is not exported.
        scene.demand("/segv", 502)?;
        scene.wait_for_verdict(Duration::from_secs(10))?;
        let (_, page) = get(scene.agent()?.listen(), "/metrics")?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("metrics");
        fs::write(&file, page)?;
        require_program("promtool")?;
        let checked =
            Command::new("promtool").args(["check", "metrics"]).stdin(fs::File::open(&file)?).output()?;
        let said = String::from_utf8_lossy(&checked.stderr);
        ensure!(checked.status.success() && said.is_empty(), "{}: {said}", checked.status);
        Ok(())
    })
}

/// What the files say of each alert, one alert after the other: the text from its name to the next.
fn alerts() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(deployed("prometheus/alerts.yaml"))?;
    let alerts = text.split("- alert: ").skip(1).map(|alert| {
        let name = alert.lines().next().unwrap_or_default();
        (name.to_owned(), alert.to_owned())
    });
    Ok(alerts.collect())
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do_and_is_tested_both_ways() -> Result<()> {
    let tests = fs::read_to_string(deployed("prometheus/alerts_test.yaml"))?;
    let alerts = alerts()?;
    ensure!(alerts.len() > 10, "{} alerts", alerts.len());
    for (name, alert) in alerts {
        for wanted in ["severity: ", "summary: ", "description: ", "runbook_url: "] {
            ensure!(alert.contains(wanted), "{name} has no {wanted}");
        }
        let url =
            alert.lines().find_map(|line| line.trim().strip_prefix("runbook_url: ")).unwrap_or_default();
        exists(url).with_context(|| name.clone())?;
        let cases: Vec<_> =
            tests.split("- alertname: ").filter(|case| case.lines().next() == Some(&name)).collect();
        let silent = cases.iter().filter(|case| case.contains("exp_alerts: []")).count();
        ensure!(silent > 0 && silent < cases.len(), "{name}: {silent} of {} cases are silent", cases.len());
    }
    Ok(())
}

/// A page of `docs/` and a heading in it, as the forge makes an anchor of one.
fn exists(url: &str) -> Result<()> {
    let place = url.split_once("/docs/").with_context(|| format!("{url:?} is no page of docs/"))?.1;
    let (page, anchor) = place.split_once('#').with_context(|| format!("{url:?} names no section"))?;
    let text = fs::read_to_string(deployed("../docs").join(page)).with_context(|| place.to_owned())?;
    let anchors =
        text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ')).map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        });
    // Sections of causes.md are named by the cause.
    let named = anchor == "{{ $labels.cause }}" && page == "causes.md";
    ensure!(named || anchors.into_iter().any(|it| it == anchor), "{place}: there is no such section");
    Ok(())
}

/// The stage: an agent, nginx, a server, and an address that nginx dials and where nobody listens.
fn played(story: impl Fn(&mut Scene) -> Result<()>) -> Result<()> {
    play(Link::Veth, Family::V4, &Plan::default(), story)
}

/// The first message to `path` that has all of these words.
fn told(receiver: &Receiver, path: &str, words: &[&str]) -> Result<Message> {
    let found = poll(&format!("a message to {path} with {words:?}"), Duration::from_secs(60), || {
        let messages = receiver.messages().into_iter();
        messages.filter(|m| m.to.contains(path)).find(|m| words.iter().all(|word| m.body.contains(word)))
    });
    found.with_context(|| format!("told: {:#?}", receiver.messages()))
}

#[test]
fn a_stale_registration_is_told_to_all_who_should_know() -> Result<()> {
    let (web, mail) = (Receiver::web()?, Receiver::mail()?);
    let alertmanager = Alertmanager::start(web.address(), mail.address())?;
    played(|scene| {
        let prometheus = Prometheus::start(scene.agent()?.listen(), alertmanager.address())?;
        let limit = Duration::from_secs(30);
        prometheus.wait_for("up{job=\"rstrace\"} == 1", limit)?;
        let stale = scene.fence().to_string();
        let broken = Instant::now();
        for _ in 0..3 {
            scene.demand("/fence", 502)?;
        }
        let seen = || format!("{}\n{}", prometheus.alerts(), alertmanager.log());
        let words = ["\"alertname\":\"RstraceStaleRegistration\"", &stale];
        let hook = told(&web, "/rstrace", &words).with_context(seen)?;
        let body: Value = serde_json::from_str(&hook.body)?;
        let alert = &body["alerts"][0];
        let labels = ["upstream", "by", "cause", "severity"].map(|label| alert["labels"][label].as_str());
        ensure!(
            labels == [Some(&*stale), Some("upstream"), Some("no_listener"), Some("critical")],
            "{alert}"
        );
        let text = alert["annotations"]["description"].as_str().unwrap_or_default();
        ensure!(text.contains(&stale) && text.contains("Cause: no_listener"), "{text}");
        // It is critical, so it is a mail as well, and none for the chat.
        let mail = told(&mail, "on-call@example.com", &[&stale, "no_listener"]).with_context(seen)?;

        // Losing requests is a warning, which is for the chat.
        let losing = Instant::now();
        for _ in 0..6 {
            scene.demand("/reset", 502)?;
        }
        let upstream = scene.upstream();
        let chat = told(&web, "/slack", &[&upstream, "reset_without_response"]).with_context(seen)?;
        let of_stale = |m: &Message| m.to == "/slack" && m.body.contains("Nothing listens");
        ensure!(!web.messages().iter().any(of_stale), "the chat was told what is for who is on call");
        // An agent that is gone is told too.
        let killed = Instant::now();
        scene.agent()?.signal(libc::SIGKILL);
        let down = told(&web, "/rstrace", &["\"alertname\":\"RstraceDown\""]).with_context(seen)?;
        eprintln!(
            "from the first 502 of a stale registration to the web-hook {:.1} s, to the mail {:.1} s; from the first lost \
             request to the chat {:.1} s; from the agent's death to the web-hook {:.1} s (scraped and judged each second)",
            hook.at.duration_since(broken).as_secs_f64(),
            mail.at.duration_since(broken).as_secs_f64(),
            chat.at.duration_since(losing).as_secs_f64(),
            down.at.duration_since(killed).as_secs_f64(),
        );
        Ok(())
    })
}

#[test]
fn the_first_abort_of_a_kind_is_counted_and_what_was_before_prometheus_is_not() -> Result<()> {
    played(|scene| {
        // Counted by the agent before anybody scrapes it.
        for _ in 0..6 {
            scene.demand("/reset", 502)?;
        }
        let upstream = scene.upstream();
        let agent = scene.agent()?.listen();
        let reset = [("upstream", &*upstream), ("cause", "reset_without_response")];
        poll("six aborts", Duration::from_secs(10), || {
            let scrape = scene.agent().and_then(|agent| agent.scrape()).ok()?;
            (scrape.sum("rstrace_upstream_aborts_total", &reset) == 6.0).then_some(())
        })?;
        let prometheus = Prometheus::start(agent, (Ipv4Addr::LOCALHOST, 9).into())?;
        let limit = Duration::from_secs(30);
        let name = "upstream_cause:rstrace_upstream_aborts:increase5m";
        prometheus.wait_for(
            &format!("{name}{{upstream=\"{upstream}\",cause=\"reset_without_response\"}}"),
            limit,
        )?;
        // One, of a kind that there was not yet: its series begins at 1.
        scene.demand("/fin", 502)?;
        let closed = format!("{name}{{upstream=\"{upstream}\",cause=\"closed_without_response\"}} >= 1");
        prometheus.wait_for(&closed, limit)?;
        let old = format!("{name}{{upstream=\"{upstream}\",cause=\"reset_without_response\"}} > 0");
        let old = prometheus.query(&old)?;
        ensure!(old.is_empty(), "what was lost before the first scrape is new: {old:?}");
        Ok(())
    })
}
