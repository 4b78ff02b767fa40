//! One answer after the other: how it ends, how long it takes, who gives it.

use std::process::Command;

use anyhow::{Result, ensure};

use super::{start_gateway, start_web};
use crate::board::Stage;
use crate::nginx::GatewayOptions;
use crate::process::run;

/// A gateway that speaks HTTP/1.0 and keeps nothing.
pub fn once(stage: &mut Stage, path: &str, status: u16) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand(path, status)?;
    stage.wait_for_the_end()
}

/// A gateway that speaks HTTP/1.1 and keeps its connections; twice, so that the kept one is used.
pub fn kept(stage: &mut Stage, path: &str, status: u16) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand(path, status)?;
    stage.demand(path, status)
}

pub fn head(stage: &mut Stage) -> Result<()> {
    start_web(stage, "location / { return 200 hello; }")?;
    start_gateway(stage, "")?;
    for _ in 0..3 {
        let outcome = stage.request("/", &["--head"])?;
        ensure!(outcome.status == 200, "{outcome:?}");
    }
    Ok(())
}

pub fn continue_100(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    let outcome = stage.request("/upload/5", &["--header", "Expect: 100-continue", "--data", "hello"])?;
    ensure!(outcome.status == 200, "{outcome:?}");
    Ok(())
}

pub fn accel_redirect(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand("/accel", 200)?;
    stage.demand("/accel", 200)
}

pub fn intercepted_error(stage: &mut Stage) -> Result<()> {
    start_web(stage, "location / { return 500 oops; }")?;
    start_gateway(stage, "proxy_intercept_errors on; error_page 500 =503 /here;")?;
    stage.demand("/", 503)?;
    stage.demand("/", 503)
}

/// More than one buffer holds, and less than the sockets do.
const BODY: usize = 100_000;

fn body(stage: &Stage, bytes: usize) -> Result<String> {
    Ok(format!("@{}", stage.write("sent", &"x".repeat(bytes))?.display()))
}

pub fn early_answer_lingering(stage: &mut Stage) -> Result<()> {
    start_web(stage, "client_max_body_size 1k; location / { return 200; }")?;
    start_gateway(stage, "")?;
    let outcome = stage.request("/", &["--data-binary", &body(stage, BODY)?])?;
    ensure!(outcome.status == 413, "{outcome:?}");
    Ok(())
}

pub fn long_download(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "proxy_max_temp_file_size 0;")?;
    let outcome = stage.request("/big/40000000", &["--limit-rate", "20M"])?;
    ensure!(outcome.status == 200 && outcome.code == 0, "{outcome:?}");
    Ok(())
}

/// Slower than any buffer on the way is large.
pub fn slow_reader(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "proxy_buffering off;")?;
    let outcome = stage.request("/big/8000000", &["--limit-rate", "3M"])?;
    ensure!(outcome.status == 200 && outcome.code == 0, "{outcome:?}");
    Ok(())
}

pub fn large_upload(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "proxy_request_buffering off;")?;
    let outcome = stage.request("/upload/40000000", &["--data-binary", &body(stage, 40_000_000)?])?;
    ensure!(outcome.status == 200, "{outcome:?}");
    Ok(())
}

pub fn masked_refusal(stage: &mut Stage) -> Result<()> {
    let (gateway, dead) = (stage.gateway(), stage.upstream());
    let live = stage.net().free_upstream();
    stage.set_upstream(live);
    stage.start_fault_server(&[])?;
    // Which of two equals comes first is the order of their names.
    stage.start_nginx_with(&format!(
        "upstream tested {{ server {dead}; server {live} backup; }}\n\
         server {{ listen {gateway}; location / {{ proxy_pass http://tested; }} }}"
    ))?;
    stage.demand("/ok", 200)
}

/// What wrk had asked for when it ended is answered all the same.
pub fn load(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "proxy_ignore_client_abort on;")?;
    let mut wrk: Command = stage.net().gateway().command("wrk")?;
    run(wrk.args(["-t1", "-c4", "-d2s"]).arg(format!("http://{}/ok", stage.gateway())))
}
