//! Gunicorn behind nginx.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::{Case, Stage};
use crate::cgroup::MemoryCgroup;
use crate::client::Request;
use crate::nginx::GatewayOptions;

pub const CASES: &[Case] = &[
    Case::new("gunicorn_timeout_2s", |stage| timeout(stage, "2")),
    Case::new("gunicorn_timeout_3s", |stage| timeout(stage, "3")),
    Case::new("gunicorn_timeout_with_a_body_unread", timeout_with_a_body_unread),
    Case::new("gunicorn_exit", |stage| breaks(stage, "/exit/3")),
    Case::new("gunicorn_closes_and_exits", |stage| breaks(stage, "/close/3")),
    Case::new("gunicorn_oom", oom),
    Case::new("gunicorn_worker_killed", worker_killed),
    Case::new("gunicorn_reload_beyond_its_timeout", |stage| told(stage, "HUP", &["--timeout", "3"])),
    Case::new("gunicorn_stop_beyond_its_grace", |stage| told(stage, "TERM", &["--graceful-timeout", "1"])),
    Case::new("gunicorn_quick_stop", |stage| told(stage, "INT", &[])),
    Case::new("gunicorn_reload_in_time", |stage| in_time(stage, "HUP")),
    Case::new("gunicorn_stop_in_time", |stage| in_time(stage, "TERM")),
    Case::new("gunicorn_recycled", recycled),
];

const GUNICORN: &str = "gunicorn";
const LIMIT: Duration = Duration::from_secs(20);
/// What a worker needs to start is some 25 MB of it.
const MEMORY: u64 = 64 << 20;

/// One worker, with further arguments; nginx before it.
fn start(stage: &mut Stage, arguments: &[&str]) -> Result<()> {
    stage.write("app.py", include_str!("../../../fixtures/servers/gunicorn/app.py"))?;
    let mut command = stage.net().upstream().command("gunicorn")?;
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg("--chdir").arg(stage.folder());
    command
        .args(["--workers", "1", "--bind"])
        .arg(stage.upstream().to_string())
        .args(arguments)
        .arg("app:app");
    stage.start_upstream(GUNICORN, command)?;
    stage.program(GUNICORN)?.wait_to_say("Booting worker", LIMIT)?;
    stage.start_nginx(&GatewayOptions::default())?;
    // A worker that has answered has put on its signal handlers.
    stage.demand("/ok", 200)
}

/// A request that the worker holds.
fn held(stage: &mut Stage, path: &str) -> Result<Request> {
    let request = stage.start_request(path, &[])?;
    stage.program(GUNICORN)?.wait_to_say(&format!("holding {path}"), LIMIT)?;
    Ok(request)
}

fn demand_end(request: Request, status: u16, stage: &Stage) -> Result<()> {
    let outcome = request.finish(LIMIT)?;
    ensure!(outcome.status == status, "{outcome:?}\n{}", stage.all_said());
    Ok(())
}

fn timeout(stage: &mut Stage, seconds: &str) -> Result<()> {
    start(stage, &["--timeout", seconds])?;
    stage.demand("/sleep/20000", 502)
}

fn timeout_with_a_body_unread(stage: &mut Stage) -> Result<()> {
    start(stage, &["--timeout", "2"])?;
    let body = stage.write("body", &"x".repeat(200_000))?;
    let outcome = stage.request("/sleep/20000", &["--data-binary", &format!("@{}", body.display())])?;
    ensure!(outcome.status == 502, "{outcome:?}\n{}", stage.all_said());
    Ok(())
}

fn breaks(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, &[])?;
    stage.demand(path, 502)
}

fn oom(stage: &mut Stage) -> Result<()> {
    start(stage, &[])?;
    let cgroup = MemoryCgroup::create(MEMORY)?;
    cgroup.add(stage.program(GUNICORN)?.children()[0])?;
    stage.demand("/eat", 502)
}

fn worker_killed(stage: &mut Stage) -> Result<()> {
    start(stage, &[])?;
    let request = held(stage, "/sleep/20000")?;
    let worker = stage.program(GUNICORN)?.children()[0];
    stage.signal_by_a_shell("KILL", worker)?;
    demand_end(request, 502, stage)
}

/// The master is told to stop or to reload, and the request does not end in time.
fn told(stage: &mut Stage, signal: &str, arguments: &[&str]) -> Result<()> {
    start(stage, arguments)?;
    let request = held(stage, "/sleep/20000")?;
    let master = stage.program(GUNICORN)?.pid();
    stage.signal_by_a_shell(signal, master)?;
    demand_end(request, 502, stage)
}

fn in_time(stage: &mut Stage, signal: &str) -> Result<()> {
    start(stage, &[])?;
    let request = held(stage, "/sleep/1500")?;
    let master = stage.program(GUNICORN)?.pid();
    stage.signal_by_a_shell(signal, master)?;
    demand_end(request, 200, stage)
}

fn recycled(stage: &mut Stage) -> Result<()> {
    start(stage, &["--max-requests", "2"])?;
    for _ in 0..7 {
        stage.demand("/ok", 200)?;
    }
    Ok(())
}
