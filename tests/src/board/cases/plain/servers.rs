//! What servers do in the middle of things: they stop half-way, answer early, are gone for a while.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{ends_with_502, held, start};
use crate::board::Stage;

pub fn cut_short(stage: &mut Stage, path: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; }} }}"
    ))?;
    let outcome = stage.request(path, &[])?;
    ensure!(outcome.status == 200 && outcome.code != 0, "no truncated response: {outcome:?}");
    Ok(())
}

/// The gateway is held while the answer and the RST behind it come, so that it finds both.
pub fn answered_early_body_unread(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    // Below nginx's client_body_buffer_size, so that head and body are sent at once and none is left when it stops.
    let body = stage.write("sent", &"x".repeat(14_000))?;
    let request = stage.start_request("/early/1500", &["--data-binary", &format!("@{}", body.display())])?;
    stage.server()?.wait_for("/early/1500")?;
    stage.wait_for_unread()?;
    let worker = stage.nginx()?.worker_pids()[0];
    stage.signal_by_a_shell("STOP", worker)?;
    stage.wait_for_the_end()?;
    stage.signal_by_a_shell("CONT", worker)?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 413, "{outcome:?}");
    Ok(())
}

pub fn no_listener_after_a_kill(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.demand("/until-close", 200)?;
    stage.server()?.killed_by_a_shell()?;
    stage.demand("/ok", 502)
}

pub fn restart_gap(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.demand("/ok", 200)?;
    stage.server()?.exit(0)?;
    stage.demand("/ok", 502)?;
    stage.start_fault_server(&[])?;
    stage.demand("/ok", 200)
}

/// An operator ends the server's connection (`ss -K`) while a request is in flight.
pub fn socket_destroyed(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let request = held(stage)?;
    let port = format!("sport = :{}", stage.upstream().port());
    stage.run_in_upstream(&["ss", "-K", "state", "established", &port])?;
    ends_with_502(request)
}
