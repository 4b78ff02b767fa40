//! PHP-FPM behind nginx over a Unix socket.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::board::late::ensure_on_time;
use crate::board::{Case, Stage};
use crate::process::poll;

pub const CASES: &[Case] = &[
    Case::new("unix_missing_socket", missing_socket),
    Case::new("unix_stale_socket", stale_socket),
    Case::new("unix_backlog_full", backlog_full),
    Case::new("unix_worker_killed", worker_killed),
    Case::new("unix_worker_crashed", |stage| breaks(stage, "/segv.php")),
    Case::new("unix_terminate_timeout_1s", |stage| terminated(stage, 1)),
    Case::new("unix_terminate_timeout_2s", |stage| terminated(stage, 2)),
    Case::new("unix_master_stopped", |stage| master_signalled(stage, "TERM")),
    Case::new("unix_master_reloaded", |stage| master_signalled(stage, "USR2")),
    Case::new("unix_pool_saturated", pool_saturated),
    Case::new("unix_gateway_timeout_1s", |stage| gateway_timeout(stage, 1)),
    Case::new("unix_gateway_timeout_2s", |stage| gateway_timeout(stage, 2)),
    Case::new("unix_client_gone", client_gone),
    Case::new("unix_gateway_killed", gateway_killed),
    Case::new("unix_healthy", healthy),
    Case::new("unix_healthy_kept", healthy_kept),
];

const LIMIT: Duration = Duration::from_secs(20);

fn socket(stage: &Stage) -> PathBuf {
    stage.folder().join("fpm.sock")
}

/// One pool of `workers` processes, with further lines of its configuration.
fn start_fpm(stage: &mut Stage, workers: u32, further: &str) -> Result<()> {
    let path = socket(stage);
    stage.write("ok.php", "<?php echo 'hello';")?;
    // A signal ends a sleep early.
    let sleep = "<?php $end = microtime(true) + $_GET['ms'] / 1000;\n\
                 while (($left = $end - microtime(true)) > 0) usleep(intval($left * 1e6) + 1);\n\
                 echo 'slept';";
    stage.write("sleep.php", sleep)?;
    stage.write("segv.php", "<?php posix_kill(getmypid(), 11); sleep(9);")?;
    let configuration = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n\
         [www]\nuser = www-data\ngroup = www-data\nlisten = {}\nlisten.mode = 0666\npm = static\n\
         pm.max_children = {workers}\n{further}\n",
        path.display()
    );
    let file = stage.write("fpm.conf", &configuration)?;
    let mut command = stage.net().upstream().command("php-fpm8.2")?;
    command.arg("-n").args(["-d", "extension=posix"]).arg("-F").arg("-y").arg(file);
    stage.start_program("php-fpm", command)?;
    let workers = usize::try_from(workers)?;
    stage.program("php-fpm")?.wait_for_children(workers)?;
    poll("php-fpm's socket", LIMIT, || {
        fs::metadata(&path).ok().filter(|file| file.file_type().is_socket()).map(drop)
    })
    .with_context(|| stage.all_said())
}

/// nginx, which gives up on `/hasty/` after `hasty_s`.
fn start_nginx(stage: &mut Stage, hasty_s: u32, further: &str) -> Result<()> {
    let (listen, folder, path) = (stage.gateway(), stage.folder().display().to_string(), socket(stage));
    stage.start_nginx_with(&format!(
        "upstream php {{ server unix:{}; {further} }}\n\
         map $uri $script {{ ~^/hasty(?<rest>/.*)$ $rest; default $uri; }}\n\
         server {{ listen {listen};\n\
         fastcgi_param SCRIPT_FILENAME {folder}$script; fastcgi_param REQUEST_METHOD $request_method;\n\
         fastcgi_param QUERY_STRING $query_string;\n\
         location / {{ fastcgi_pass php; fastcgi_read_timeout 30s; }}\n\
         location /hasty/ {{ fastcgi_pass php; fastcgi_read_timeout {hasty_s}s; }}\n\
         }}",
        path.display()
    ))
}

fn start(stage: &mut Stage, workers: u32) -> Result<()> {
    start_fpm(stage, workers, "")?;
    start_nginx(stage, 1, "")
}

fn breaks(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage, 1)?;
    stage.demand(path, 502)
}

/// Waits until a worker has read a request: it does nothing else than that.
fn wait_until_busy(stage: &mut Stage, workers: usize) -> Result<Vec<u32>> {
    let children = stage.program("php-fpm")?.children();
    poll("a busy worker", LIMIT, || {
        let sleeps = |pid: &&u32| {
            let wchan = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            // clock_nanosleep(2), which is where usleep() waits.
            wchan.starts_with("230 ")
        };
        let busy: Vec<u32> = children.iter().filter(sleeps).copied().collect();
        (busy.len() >= workers).then_some(busy)
    })
}

/// Waits until so many connections wait to be accepted.
fn wait_for_backlog(stage: &Stage, count: usize) -> Result<()> {
    let path = socket(stage).display().to_string();
    poll(&format!("{count} connections in the backlog"), LIMIT, || {
        let mut ss = stage.net().upstream().command("ss").ok()?;
        let output = ss.args(["-Hxl", "src", &path]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let waiting: usize = text.split_whitespace().nth(2)?.parse().ok()?;
        (waiting == count).then_some(())
    })
}

fn missing_socket(stage: &mut Stage) -> Result<()> {
    start_nginx(stage, 1, "")?;
    stage.demand("/ok.php", 502)
}

fn stale_socket(stage: &mut Stage) -> Result<()> {
    drop(UnixListener::bind(socket(stage))?);
    crate::process::run(std::process::Command::new("chmod").arg("666").arg(socket(stage)))?;
    start_nginx(stage, 1, "")?;
    stage.demand("/ok.php", 502)
}

fn backlog_full(stage: &mut Stage) -> Result<()> {
    start_fpm(stage, 1, "listen.backlog = 1")?;
    start_nginx(stage, 1, "")?;
    let first = stage.start_request("/sleep.php?ms=3000", &[])?;
    wait_until_busy(stage, 1)?;
    // A backlog of 1 holds two.
    let second = stage.start_request("/ok.php", &[])?;
    wait_for_backlog(stage, 1)?;
    let third = stage.start_request("/ok.php", &[])?;
    wait_for_backlog(stage, 2)?;
    stage.demand("/ok.php", 502)?;
    for request in [first, second, third] {
        ensure!(request.finish(LIMIT)?.status == 200, "a request that waited in the backlog failed");
    }
    Ok(())
}

fn worker_killed(stage: &mut Stage) -> Result<()> {
    start(stage, 1)?;
    let request = stage.start_request("/sleep.php?ms=20000", &[])?;
    let worker = wait_until_busy(stage, 1)?;
    stage.signal_by_a_shell("KILL", worker[0])?;
    ensure!(request.finish(LIMIT)?.status == 502, "the request survived its worker");
    Ok(())
}

fn terminated(stage: &mut Stage, seconds: u32) -> Result<()> {
    start_fpm(stage, 1, &format!("request_terminate_timeout = {seconds}s"))?;
    start_nginx(stage, 1, "")?;
    stage.demand("/sleep.php?ms=20000", 502)
}

fn master_signalled(stage: &mut Stage, signal: &str) -> Result<()> {
    start(stage, 1)?;
    let request = stage.start_request("/sleep.php?ms=20000", &[])?;
    wait_until_busy(stage, 1)?;
    let master = stage.program("php-fpm")?.pid();
    stage.signal_by_a_shell(signal, master)?;
    ensure!(request.finish(LIMIT)?.status == 502, "the request survived {signal}");
    Ok(())
}

fn pool_saturated(stage: &mut Stage) -> Result<()> {
    start(stage, 1)?;
    let first = stage.start_request("/sleep.php?ms=3000", &[])?;
    wait_until_busy(stage, 1)?;
    stage.demand("/hasty/ok.php", 504)?;
    ensure!(first.finish(LIMIT)?.status == 200, "the request that kept the worker busy failed");
    Ok(())
}

fn gateway_timeout(stage: &mut Stage, seconds: u32) -> Result<()> {
    start_fpm(stage, 1, "")?;
    start_nginx(stage, seconds, "")?;
    let outcome = stage.request("/hasty/sleep.php?ms=4000", &[])?;
    ensure!(outcome.status == 504, "{outcome:?}");
    ensure_on_time(&[outcome.took], Duration::from_secs(seconds.into()))
}

fn client_gone(stage: &mut Stage) -> Result<()> {
    start(stage, 1)?;
    let outcome = stage.request("/sleep.php?ms=3000", &["--max-time", "0.6"])?;
    ensure!(outcome.status == 0, "the client was to leave first: {outcome:?}");
    Ok(())
}

/// Nothing tells of what a dying gateway closes; php-fpm finds nobody when it answers.
fn gateway_killed(stage: &mut Stage) -> Result<()> {
    start(stage, 1)?;
    let request = stage.start_request("/sleep.php?ms=2000", &[])?;
    wait_until_busy(stage, 1)?;
    let worker = stage.nginx()?.worker_pids()[0];
    stage.signal_by_a_shell("KILL", worker)?;
    request.finish(LIMIT)?;
    let fpm = stage.program("php-fpm")?.children();
    poll("php-fpm to have answered", LIMIT, || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", fpm[0])).unwrap_or_default();
        (!call.starts_with("230 ") && !call.starts_with("running")).then_some(())
    })
}

fn healthy(stage: &mut Stage) -> Result<()> {
    start(stage, 2)?;
    for _ in 0..5 {
        stage.demand("/ok.php", 200)?;
        stage.demand("/sleep.php?ms=150", 200)?;
    }
    Ok(())
}

/// Connections that are kept, and then closed by either side.
fn healthy_kept(stage: &mut Stage) -> Result<()> {
    start_fpm(stage, 2, "pm.max_requests = 3")?;
    start_nginx(stage, 1, "keepalive 2; keepalive_timeout 1s;")?;
    for _ in 0..9 {
        stage.demand("/ok.php", 200)?;
    }
    Ok(())
}
