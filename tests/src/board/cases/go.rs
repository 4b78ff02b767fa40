//! A server in Go behind nginx.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::late::ensure_on_time;
use crate::board::{Case, Stage, go};
use crate::client::Request;
use crate::netns::Link;
use crate::nginx::GatewayOptions;

pub const CASES: &[Case] = &[
    Case::new("write_timeout", |stage| outlives_its_timeout(stage, 1, &[])),
    Case::new("write_timeout_body", |stage| outlives_its_timeout(stage, 1, &["--data-binary", "@body"])),
    Case::new("write_timeout_thrice", |stage| outlives_its_timeout(stage, 3, &[])),
    Case::new("write_timeout_thrice_shorter", write_timeout_thrice_shorter),
    Case::new("write_timeout_body_thrice", |stage| {
        outlives_its_timeout(stage, 3, &["--data-binary", "@body"])
    }),
    Case::new("handler_panics", |stage| breaks_and_lives(stage, "/panic")),
    Case::new("handler_reads_nil", |stage| breaks_and_lives(stage, "/nil")),
    Case::new("handler_aborts", |stage| breaks_and_lives(stage, "/abort")),
    Case::new("hijacked_and_closed", |stage| breaks_and_lives(stage, "/hijack-close")).over(Link::Loopback),
    Case::new("hijacked_and_reset", |stage| breaks_and_lives(stage, "/hijack-reset")),
    Case::new("goroutine_panics", |stage| breaks_and_dies(stage, "/goroutine")),
    Case::new("log_fatal", |stage| breaks_and_dies(stage, "/fatal")).over(Link::Routed),
    Case::new("os_exit", |stage| breaks_and_dies(stage, "/exit?n=3")).over(Link::Loopback),
    Case::new("killed", killed),
    Case::new("terminated_gracefully", |stage| terminated(stage, "shutdown", 200)),
    Case::new("terminated_with_close", |stage| terminated(stage, "close", 502)),
    Case::new("response_aborted", response_aborted),
    Case::new("exit_mid_response", exit_mid_response),
    Case::new("healthy", healthy),
];

/// What the kernel knows the server's process as.
const SERVER: &str = "goserver";

/// Starts the Go server as the upstream, with further arguments.
pub(super) fn serve(stage: &mut Stage, arguments: &[&str]) -> Result<()> {
    let mut command = stage.net().upstream().command(go::program(SERVER)?)?;
    command.arg("-listen").arg(stage.upstream().to_string()).args(arguments);
    stage.start_upstream(SERVER, command)
}

/// Waits until the server has got a request for this.
pub(super) fn wait_for(stage: &mut Stage, action: &str) -> Result<()> {
    stage.program(SERVER)?.wait_to_say(action, Duration::from_secs(10))
}

/// Has a shell send a signal to the server.
pub(super) fn signal(stage: &mut Stage, signal: &str) -> Result<()> {
    let server = stage.program(SERVER)?.pid();
    stage.signal_by_a_shell(signal, server)
}

fn start(stage: &mut Stage, arguments: &[&str]) -> Result<()> {
    serve(stage, arguments)?;
    stage.start_nginx(&GatewayOptions::default())
}

/// A handler of 4 s under a `WriteTimeout` of 2 s: Go notices when the handler has ended.
fn outlives_its_timeout(stage: &mut Stage, times: usize, arguments: &[&str]) -> Result<()> {
    start(stage, &["-write-timeout", "2s"])?;
    slow(stage, 4000, times, arguments)
}

fn write_timeout_thrice_shorter(stage: &mut Stage) -> Result<()> {
    start(stage, &["-write-timeout", "500ms"])?;
    // Answers that came in time show that it is not just slow.
    stage.demand("/slow?n=100", 200)?;
    slow(stage, 1500, 3, &[])
}

/// `@body` stands for a file that is more than Go reads of its own accord.
fn slow(stage: &Stage, ms: u64, times: usize, arguments: &[&str]) -> Result<()> {
    let body = stage.write("body", &"x".repeat(600_000))?;
    let body = format!("@{}", body.display());
    let arguments: Vec<&str> =
        arguments.iter().map(|word| if *word == "@body" { body.as_str() } else { word }).collect();
    let path = format!("/slow?n={ms}");
    let mut took = Vec::new();
    for _ in 0..times {
        let outcome = stage.request(&path, &arguments)?;
        ensure!(outcome.status == 502, "{outcome:?}");
        took.push(outcome.took);
    }
    ensure_on_time(&took, Duration::from_millis(ms))
}

/// The next request finds the same process.
fn breaks_and_lives(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, &[])?;
    stage.demand(path, 502)?;
    stage.demand("/", 200)
}

/// The next request finds nobody.
fn breaks_and_dies(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, &[])?;
    stage.demand(path, 502)?;
    stage.demand("/", 502)
}

fn hold(stage: &mut Stage, path: &str) -> Result<Request> {
    let request = stage.start_request(path, &[])?;
    wait_for(stage, path.split('?').next().unwrap_or(path).trim_start_matches('/'))?;
    Ok(request)
}

fn killed(stage: &mut Stage) -> Result<()> {
    start(stage, &[])?;
    let request = hold(stage, "/hang")?;
    signal(stage, "KILL")?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn terminated(stage: &mut Stage, how: &str, status: u16) -> Result<()> {
    start(stage, &["-at-term", how])?;
    let request = hold(stage, "/slow?n=1500")?;
    signal(stage, "TERM")?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == status, "{outcome:?}");
    Ok(())
}

fn response_aborted(stage: &mut Stage) -> Result<()> {
    start(stage, &[])?;
    let outcome = stage.request("/stream-abort", &[])?;
    ensure!(outcome.status == 200, "{outcome:?}");
    Ok(())
}

fn exit_mid_response(stage: &mut Stage) -> Result<()> {
    start(stage, &[])?;
    let outcome = stage.request("/stream-exit?n=4", &[])?;
    ensure!(outcome.status == 200, "{outcome:?}");
    Ok(())
}

/// Connections that are kept, used again, and closed by the server's `IdleTimeout`.
fn healthy(stage: &mut Stage) -> Result<()> {
    serve(stage, &["-idle-timeout", "1s"])?;
    stage.start_nginx(&GatewayOptions { keepalive: true, ..GatewayOptions::default() })?;
    for path in ["/", "/slow?n=300", "/"] {
        stage.demand(path, 200)?;
    }
    stage.wait_for_the_end()
}
