//! PHP-FPM behind nginx over TCP.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::{Case, Stage};
use crate::cgroup::MemoryCgroup;
use crate::client::Request;
use crate::netns::Link;

pub const CASES: &[Case] = &[
    Case::new("fpm_worker_killed", worker_killed),
    Case::new("fpm_worker_killed_loopback", worker_killed).over(Link::Loopback),
    Case::new("fpm_worker_crashed", worker_crashed),
    Case::new("fpm_oom", oom),
    Case::new("fpm_terminate_timeout_1s", |stage| terminated(stage, 1)),
    Case::new("fpm_terminate_timeout_2s", |stage| terminated(stage, 2)),
    Case::new("fpm_master_stopped", |stage| master_told(stage, "TERM", "")),
    Case::new("fpm_master_quits_at_once", |stage| master_told(stage, "QUIT", "")),
    Case::new("fpm_master_quits_after_a_second", |stage| {
        master_told(stage, "QUIT", "process_control_timeout = 1s")
    }),
    Case::new("fpm_master_reloaded", |stage| master_told(stage, "USR2", "")),
    Case::new("fpm_timeout_after_a_reload", timeout_after_a_reload),
    Case::new("fpm_pool_saturated", pool_saturated),
    Case::new("fpm_master_down", master_down),
    Case::new("fpm_graceful_stop", |stage| in_time(stage, "QUIT")),
    Case::new("fpm_graceful_reload", |stage| in_time(stage, "USR2")),
    Case::new("fpm_healthy", healthy),
    Case::new("fpm_recycled", recycled),
];

const FPM: &str = "php-fpm";
const LIMIT: Duration = Duration::from_secs(20);
/// What a worker needs to start is some 20 MB of it.
const MEMORY: u64 = 64 << 20;
const LONG: &str = "/?do=sleep&ms=20000&name=long";

/// One pool of one worker, with further lines for its section and for the global one.
fn start_fpm(stage: &mut Stage, pool: &str, global: &str) -> Result<()> {
    stage.write("act.php", include_str!("../../../fixtures/servers/php_fpm/act.php"))?;
    let configuration = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n{global}\n\
         [www]\nuser = www-data\ngroup = www-data\nlisten = {}\npm = static\npm.max_children = 1\n\
         catch_workers_output = yes\nphp_admin_value[memory_limit] = -1\n{pool}\n",
        stage.upstream()
    );
    let file = stage.write("fpm.conf", &configuration)?;
    let mut command = stage.net().upstream().command("php-fpm8.2")?;
    command.arg("-n").args(["-d", "extension=posix"]).arg("-F").arg("-y").arg(file);
    stage.start_upstream(FPM, command)?;
    stage.program(FPM)?.wait_for_children(1).map(drop)
}

/// nginx, which gives up on `/hasty` after a second.
fn start_nginx(stage: &mut Stage) -> Result<()> {
    let (listen, upstream) = (stage.gateway(), stage.upstream());
    let script = stage.folder().join("act.php").display().to_string();
    stage.start_nginx_with(&format!(
        "server {{ listen {listen};\n\
         fastcgi_param SCRIPT_FILENAME {script}; fastcgi_param REQUEST_METHOD $request_method;\n\
         fastcgi_param QUERY_STRING $query_string;\n\
         location / {{ fastcgi_pass {upstream}; fastcgi_read_timeout 30s; }}\n\
         location /hasty {{ fastcgi_pass {upstream}; fastcgi_read_timeout 1s; }}\n\
         }}"
    ))
}

fn start(stage: &mut Stage) -> Result<()> {
    start_fpm(stage, "", "")?;
    start_nginx(stage)
}

/// A request that the worker holds.
fn held(stage: &mut Stage, path: &str) -> Result<Request> {
    let request = stage.start_request(path, &[])?;
    stage.program(FPM)?.wait_to_say("holding long", LIMIT)?;
    Ok(request)
}

fn demand_end(request: Request, status: u16, stage: &Stage) -> Result<()> {
    let outcome = request.finish(LIMIT)?;
    ensure!(outcome.status == status, "{outcome:?}\n{}", stage.all_said());
    Ok(())
}

fn worker_killed(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let request = held(stage, LONG)?;
    let worker = stage.program(FPM)?.children()[0];
    stage.signal_by_a_shell("KILL", worker)?;
    demand_end(request, 502, stage)
}

fn worker_crashed(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.demand("/?do=segv", 502)
}

fn oom(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let cgroup = MemoryCgroup::create(MEMORY)?;
    cgroup.add(stage.program(FPM)?.children()[0])?;
    stage.demand("/?do=eat", 502)
}

fn terminated(stage: &mut Stage, seconds: u32) -> Result<()> {
    start_fpm(stage, &format!("request_terminate_timeout = {seconds}s"), "")?;
    start_nginx(stage)?;
    stage.demand(LONG, 502)
}

fn master_told(stage: &mut Stage, signal: &str, global: &str) -> Result<()> {
    start_fpm(stage, "", global)?;
    start_nginx(stage)?;
    let request = held(stage, LONG)?;
    let master = stage.program(FPM)?.pid();
    stage.signal_by_a_shell(signal, master)?;
    demand_end(request, 502, stage)
}

/// The reload is over; what the new worker suffers has nothing to do with it.
fn timeout_after_a_reload(stage: &mut Stage) -> Result<()> {
    start_fpm(stage, "request_terminate_timeout = 1s", "")?;
    start_nginx(stage)?;
    let (master, before) = (stage.program(FPM)?.pid(), stage.program(FPM)?.children());
    stage.signal_by_a_shell("USR2", master)?;
    let program = stage.program(FPM)?;
    crate::process::poll("the new worker", LIMIT, || {
        let now = program.children();
        (now.len() == 1 && now != before).then_some(())
    })?;
    stage.demand(LONG, 502)
}

fn pool_saturated(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let first = held(stage, "/hasty?do=sleep&ms=3000&name=long")?;
    stage.demand("/hasty?do=ok", 504)?;
    demand_end(first, 504, stage)
}

fn master_down(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.demand("/?do=ok", 200)?;
    let master = stage.program(FPM)?.pid();
    stage.signal_by_a_shell("TERM", master)?;
    stage.program(FPM)?.wait(LIMIT)?;
    stage.demand("/?do=ok", 502)
}

/// The request ends before the master's patience does.
fn in_time(stage: &mut Stage, signal: &str) -> Result<()> {
    start_fpm(stage, "", "process_control_timeout = 10s")?;
    start_nginx(stage)?;
    let request = held(stage, "/?do=sleep&ms=1500&name=long")?;
    let master = stage.program(FPM)?.pid();
    stage.signal_by_a_shell(signal, master)?;
    demand_end(request, 200, stage)
}

fn healthy(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    for path in ["/?do=ok", "/?do=large", "/?do=sleep&ms=150", "/?do=ok"] {
        stage.demand(path, 200)?;
    }
    Ok(())
}

fn recycled(stage: &mut Stage) -> Result<()> {
    start_fpm(stage, "pm.max_requests = 2", "")?;
    start_nginx(stage)?;
    for _ in 0..7 {
        stage.demand("/?do=ok", 200)?;
    }
    Ok(())
}
