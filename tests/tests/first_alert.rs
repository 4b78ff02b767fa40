//! From nothing to an alert that names the culprit, as docs/deploy.md and docs/monitoring.md have a newcomer type it, where
//! a real systemd is process 1: Debian's Prometheus and Alertmanager with the configuration that is shipped, at its pace.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::document::commands;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::nginx::{GatewayOptions, Nginx};
use rstrace_tests::process::{poll, run_within};
use rstrace_tests::receivers::Receiver;
use rstrace_tests::server::Server;
use rstrace_tests::systemd::{Machine, workspace};

/// What the issue allows from the first command to the alert.
const LIMIT: Duration = Duration::from_secs(300);

const PACE: Duration = Duration::from_secs(1);

/// Where the configuration that is shipped sends its web-hooks.
const WEB_HOOK: &str = "127.0.0.1:9095";

/// What is typed of docs/deploy.md: up to the first question to the agent.
const READY: &str = "curl -fsS http://127.0.0.1:19435/readyz";

/// What cannot be typed here, by its beginning, and why.
const NOT_TYPED: &[&str] = &[
    // The machine has the program; image.rs tells of its build.
    "./dev image",
    // The machine has the packages; what installing them starts is started by `services`.
    "apt-get install",
    // The unit runs it.
    "rstrace agent",
];

#[test]
fn a_newcomer_has_an_alert_that_names_the_culprit_within_five_minutes() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let hook = Receiver::web_on(net.gateway().enter(|| TcpListener::bind(WEB_HOOK))??)?;
    let machine = Machine::boot(net.gateway())?;
    services(&machine)?;
    let upstream = net.free_upstream();
    let mut server = Server::start(net.upstream(), upstream, &[], None)?;
    let options = GatewayOptions::default();
    let gateway = Nginx::start(net.gateway(), net.gateway_ip(), upstream, net.free_upstream(), &options)?;

    let began = Instant::now();
    typed(&machine)?;
    let watched = began.elapsed();
    let killer = server.killed_by_a_shell()?;
    let mut requests = 0;
    let alert = poll("an alert", LIMIT.saturating_sub(began.elapsed()), || {
        // A user each second, who is told 502. (What comes before the first scrape does not count.)
        if began.elapsed() > PACE * requests {
            get(&net, &gateway.url("/ok"), "502").ok()?;
            requests += 1;
        }
        let mut messages = hook.messages().into_iter();
        messages.find(|message| message.body.contains("RstraceStaleRegistration"))
    });
    let alert =
        alert.with_context(|| machine.done("journalctl", &["--no-pager", "-n", "50"]).unwrap_or_default())?;
    let took = alert.at.duration_since(began);
    eprintln!(
        "{:.1} s to a ready agent and its Prometheus, {:.1} s to the alert",
        watched.as_secs_f64(),
        took.as_secs_f64()
    );
    names(&alert.body, upstream)?;
    // The alert says which command names the process.
    let report = machine.done("rstrace", &["report", "--since", "15m"])?;
    ensure!(report.contains(&format!("[{killer}]")), "{killer} is not in the report:\n{report}");
    Ok(())
}

/// What installing Debian's packages has done: both run, with their own configuration.
fn services(machine: &Machine) -> Result<()> {
    // There is no address here that other members of a cluster could reach, and it would not start.
    machine.write("/etc/default/prometheus-alertmanager", "ARGS=\"--cluster.listen-address=\"\n")?;
    machine.done("systemctl", &["start", "prometheus", "prometheus-alertmanager"]).map(drop)
}

/// Types what the documents say.
fn typed(machine: &Machine) -> Result<()> {
    let documents = ["docs/deploy.md", "docs/monitoring.md"];
    let [deploy, monitoring] =
        documents.map(|name| std::fs::read_to_string(workspace()?.join(name)).context(name));
    let (deploy, monitoring) = (deploy?, monitoring?);
    let deploy = commands(&deploy);
    let ready = deploy.iter().position(|line| *line == READY).context("nobody asks whether it is ready")?;
    let all: Vec<_> = deploy[..=ready].iter().chain(&commands(&monitoring)).copied().collect();
    let typed: Vec<_> =
        all.iter().filter(|line| !NOT_TYPED.iter().any(|not| line.starts_with(not))).copied().collect();
    ensure!(typed.iter().any(|line| line.starts_with("cp deploy/prometheus")), "{typed:?}");
    let ended = machine.types(&typed.join("\n"))?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}

/// A request that the gateway answers with this status.
fn get(net: &Net, url: &str, status: &str) -> Result<()> {
    let mut curl = net.gateway().command("curl")?;
    let ended = run_within(curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", url]), LIMIT)?;
    ensure!(ended.stdout == status, "{url} was answered with {}", ended.stdout);
    Ok(())
}

/// Demands that an alert says who it was.
fn names(body: &str, upstream: SocketAddr) -> Result<()> {
    let body: serde_json::Value = serde_json::from_str(body)?;
    let alerts = body["alerts"].as_array().context("no alerts")?;
    let alert = alerts.iter().find(|alert| alert["labels"]["alertname"] == "RstraceStaleRegistration");
    let alert = alert.with_context(|| body.to_string())?;
    let labels = ["upstream", "by", "cause"].map(|label| alert["labels"][label].as_str());
    ensure!(labels == [Some(&*upstream.to_string()), Some("upstream"), Some("no_listener")], "{alert}");
    let text = alert["annotations"]["description"].as_str().unwrap_or_default();
    ensure!(text.contains("rstrace report"), "{text}");
    Ok(())
}
