//! What the gateway's clients do: they leave, they reset, they stop reading.

use std::io::Read;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::start;
use crate::board::Stage;
use crate::board::dial::half_close;
use crate::client::reset;
use crate::nginx::GatewayOptions;
use crate::process::poll;

pub fn resets(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let client = stage.ask("/hang")?;
    stage.server()?.wait_for("/hang")?;
    reset(client);
    stage.wait_for_the_end()
}

/// The process that had called listen(2) has ended since.
pub fn resets_at_a_daemon(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions { daemon: true, ..GatewayOptions::default() })?;
    let client = stage.ask("/hang")?;
    stage.server()?.wait_for("/hang")?;
    reset(client);
    stage.wait_for_the_end()
}

/// It would still read, but nginx takes it for one that has left.
pub fn half_closes(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let client = stage.ask("/hang")?;
    stage.server()?.wait_for("/hang")?;
    let answer = half_close(client)?;
    ensure!(answer.is_empty(), "{answer}");
    stage.wait_for_the_end()
}

/// Nothing between the server and the client holds the whole answer.
fn start_streaming(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; send_timeout 1s;\n\
         location / {{ proxy_pass http://{upstream}; proxy_buffering off; }} }}"
    ))
}

pub fn gone_mid_response(stage: &mut Stage) -> Result<()> {
    start_streaming(stage)?;
    let mut client = stage.ask("/big/100000000")?;
    client.read_exact(&mut [0; 10_000])?;
    drop(client);
    stage.wait_for_the_end()
}

/// It keeps its connection and does not read.
pub fn too_slow(stage: &mut Stage) -> Result<()> {
    start_streaming(stage)?;
    let mut client = stage.ask("/big/100000000")?;
    client.read_exact(&mut [0; 10_000])?;
    poll("nginx to give up on its client", Duration::from_secs(20), || {
        stage.gateway_log().contains("while sending to client").then_some(())
    })?;
    stage.wait_for_the_end()
}
