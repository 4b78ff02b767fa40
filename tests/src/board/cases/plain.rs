//! One fault after the other in a plain server behind nginx.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::{Case, Stage};
use crate::nginx::GatewayOptions;

pub const CASES: &[Case] = &[
    Case::new("process_crashed", |stage| breaks(stage, "/segv")),
    Case::new("process_exited", |stage| breaks(stage, "/exit/3")),
    Case::new("process_killed", process_killed),
    Case::new("closed_without_response", |stage| breaks(stage, "/fin")),
    Case::new("reset_without_response", |stage| breaks(stage, "/reset")),
    Case::new("closed_unread_data", closed_unread_data),
    Case::new("reset_mid_response", reset_mid_response),
    Case::new("no_listener", no_listener),
];

/// The request makes the server do `path`, and the gateway answers 502.
fn breaks(stage: &mut Stage, path: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand(path, 502)
}

fn process_killed(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    stage.server()?.killed_by_a_shell()?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn closed_unread_data(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--unread"])?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/ok", 502)
}

fn reset_mid_response(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let outcome = stage.request("/partial-reset", &[])?;
    ensure!(outcome.status == 200 && outcome.code != 0, "no truncated response: {outcome:?}");
    Ok(())
}

fn no_listener(stage: &mut Stage) -> Result<()> {
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/ok", 502)
}
