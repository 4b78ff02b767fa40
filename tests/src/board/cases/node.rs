//! A server in Node.js behind nginx.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::board::late::ensure_on_time;
use crate::board::{Case, Stage};
use crate::netns::Link;
use crate::nginx::GatewayOptions;

pub const CASES: &[Case] = &[
    Case::new("process_exit", |stage| breaks_and_dies(stage, "/exit?n=1")),
    Case::new("process_exit_0", |stage| breaks_and_dies(stage, "/exit?n=0")).over(Link::Loopback),
    Case::new("uncaught_exception", |stage| breaks_and_dies(stage, "/throw")).over(Link::Routed),
    Case::new("destroyed", |stage| breaks_and_lives(stage, "/destroy")),
    Case::new("reset_and_destroyed", |stage| breaks_and_lives(stage, "/reset")),
    Case::new("killed", killed),
    Case::new("cluster_worker_killed", cluster_worker_killed),
    Case::new("server_timeout", |stage| server_timeout(stage, 1000, 1)),
    Case::new("server_timeout_thrice", |stage| server_timeout(stage, 1000, 3)),
    Case::new("server_timeout_thrice_longer", |stage| server_timeout(stage, 1700, 3)),
    Case::new("request_timeout", request_timeout),
    Case::new("destroyed_mid_response", |stage| cut_short(stage, "/stream-destroy")),
    Case::new("exit_mid_response", |stage| cut_short(stage, "/stream-exit?n=4")),
    Case::new("keepalive_race", keepalive_race).over(Link::Tun),
    Case::new("terminated_gracefully", terminated_gracefully),
    Case::new("healthy", healthy),
];

const SERVER: &str = "node";
const SOURCE: &str = include_str!("../../../fixtures/servers/node/server.js");

/// Starts the server as the upstream; `settings` are JSON.
fn serve(stage: &mut Stage, settings: &str) -> Result<()> {
    let source = stage.write("server.js", SOURCE)?;
    let upstream = stage.upstream();
    let mut command = stage.net().upstream().command("node")?;
    command.arg(source).arg(upstream.ip().to_string()).arg(upstream.port().to_string()).arg(settings);
    stage.start_upstream(SERVER, command)
}

fn start(stage: &mut Stage, settings: &str) -> Result<()> {
    serve(stage, settings)?;
    stage.start_nginx(&GatewayOptions::default())
}

fn start_keeping(stage: &mut Stage, settings: &str) -> Result<()> {
    serve(stage, settings)?;
    stage.start_nginx(&GatewayOptions { keepalive: true, ..GatewayOptions::default() })
}

/// The next request finds the same process.
fn breaks_and_lives(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, "{}")?;
    stage.demand(path, 502)?;
    stage.demand("/", 200)
}

/// The next request finds nobody.
fn breaks_and_dies(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, "{}")?;
    stage.demand(path, 502)?;
    stage.demand("/", 502)
}

/// A shell kills the process that holds a request; `victim` says which one that is.
fn kill_in_flight(stage: &mut Stage, victim: impl Fn(&mut Stage) -> Result<u32>) -> Result<()> {
    let victim = victim(stage)?;
    let request = stage.start_request("/hang", &[])?;
    stage.program(SERVER)?.wait_to_say("hang", Duration::from_secs(10))?;
    stage.signal_by_a_shell("KILL", victim)?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn killed(stage: &mut Stage) -> Result<()> {
    start(stage, "{}")?;
    kill_in_flight(stage, |stage| Ok(stage.program(SERVER)?.pid()))
}

/// The primary accepts, and hands each connection to its worker.
fn cluster_worker_killed(stage: &mut Stage) -> Result<()> {
    start(stage, r#"{"workers": 1}"#)?;
    kill_in_flight(stage, |stage| {
        let workers = stage.program(SERVER)?.wait_for_children(1)?;
        workers.first().copied().context("no worker")
    })
}

/// `server.timeout`: nothing came or went for so long.
fn server_timeout(stage: &mut Stage, ms: u64, times: usize) -> Result<()> {
    start(stage, &format!(r#"{{"server": {{"timeout": {ms}}}}}"#))?;
    let mut took = Vec::new();
    for _ in 0..times {
        let outcome = stage.request("/hang", &[])?;
        ensure!(outcome.status == 502, "{outcome:?}");
        took.push(outcome.took);
    }
    ensure_on_time(&took, Duration::from_millis(ms))
}

/// `server.requestTimeout`: a body that comes too slowly is answered with 408.
fn request_timeout(stage: &mut Stage) -> Result<()> {
    serve(
        stage,
        r#"{"options": {"requestTimeout": 1000, "headersTimeout": 1000, "connectionsCheckingInterval": 100}}"#,
    )?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; proxy_request_buffering off; proxy_http_version 1.1;\n\
         location / {{ proxy_pass http://{upstream}; }} }}"
    ))?;
    let body = stage.write("body", &"x".repeat(20_000))?;
    let body = format!("@{}", body.display());
    let outcome =
        stage.request("/hang", &["--data-binary", &body, "--limit-rate", "4000", "-H", "Expect:"])?;
    ensure!(outcome.status == 408, "{outcome:?}\n{}", stage.all_said());
    Ok(())
}

fn cut_short(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, "{}")?;
    let outcome = stage.request(path, &[])?;
    ensure!(outcome.status == 200 && outcome.code != 0, "{outcome:?}");
    Ok(())
}

/// The idle connection is used again when the server has just closed it and its FIN is still on the way. When that is
/// differs between versions of Node.js (some wait a second longer than `keepAliveTimeout`), so it is measured first.
fn keepalive_race(stage: &mut Stage) -> Result<()> {
    start_keeping(stage, r#"{"server": {"keepAliveTimeout": 1000}}"#)?;
    let delay = Duration::from_millis(200);
    stage.tun()?.delay(delay);
    stage.demand("/", 200)?;
    let mut answered = Instant::now();
    for _ in 0..10 {
        stage.wait_for_the_end()?;
        let kept = answered.elapsed();
        stage.demand("/", 200)?;
        // The FIN comes in `delay`, and has left `delay` before: the middle of the time in which the two cross.
        thread::sleep(kept.saturating_sub(delay));
        match stage.request("/", &[])?.status {
            502 => return Ok(()),
            // Too early or too late. The next one starts from nothing, and from a new measurement.
            200 => answered = Instant::now(),
            other => bail!("status {other}"),
        }
    }
    bail!("the request never met the FIN")
}

/// `server.close()` at SIGTERM, with a request in flight that is answered.
fn terminated_gracefully(stage: &mut Stage) -> Result<()> {
    start(stage, "{}")?;
    let request = stage.start_request("/slow?n=1000", &[])?;
    stage.program(SERVER)?.wait_to_say("slow", Duration::from_secs(10))?;
    let server = stage.program(SERVER)?.pid();
    stage.signal_by_a_shell("TERM", server)?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 200, "{outcome:?}");
    stage.program(SERVER)?.wait(Duration::from_secs(10))
}

/// Connections that are kept, used again, and closed by the server's `keepAliveTimeout`.
fn healthy(stage: &mut Stage) -> Result<()> {
    start_keeping(stage, r#"{"server": {"keepAliveTimeout": 1000}}"#)?;
    for path in ["/", "/slow?n=300", "/", "/"] {
        stage.demand(path, 200)?;
    }
    stage.wait_for_the_end()
}
