//! Those who are no gateway and want no answer, or not for long: probes, programs that give up, scanners.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::start_gateway;
use crate::board::dial::half_close;
use crate::board::{Stage, scan};
use crate::client::Request;
use crate::nginx::GatewayOptions;

pub fn probes(stage: &mut Stage, end: fn(TcpStream)) -> Result<()> {
    stage.start_fault_server(&[])?;
    connect_20_times(stage, stage.upstream(), end)
}

pub fn of_the_gateway(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    connect_20_times(stage, stage.gateway(), drop)?;
    stage.demand("/ok", 200)
}

fn connect_20_times(stage: &Stage, address: SocketAddr, end: fn(TcpStream)) -> Result<()> {
    for _ in 0..20 {
        end(stage.dial(address)?);
    }
    Ok(())
}

pub fn half_closed_client(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "proxy_ignore_client_abort on;")?;
    let answer = half_close(stage.ask("/slow/500")?)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

pub fn half_closed_to_the_server(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--echo"])?;
    let mut client = stage.dial(stage.upstream())?;
    client.write_all(b"hello ")?;
    let said = half_close(client)?;
    ensure!(said == "hello bye\n", "the server said {said:?}");
    Ok(())
}

pub fn program_gives_up(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let url = format!("http://{}/hang", stage.upstream());
    let request = Request::start(stage.net().gateway(), &["--max-time", "0.5", &url])?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.code == 28, "curl did not give up: {outcome:?}");
    Ok(())
}

pub fn leaves_before_the_answer(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let mut client = stage.dial(stage.upstream())?;
    client.write_all(b"GET /slow/300 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    stage.server()?.wait_for("/slow/300")?;
    drop(client);
    // Another request, which is read after the answer to the first has been refused.
    let mut client = stage.dial(stage.upstream())?;
    client.write_all(b"GET /slow/600 HTTP/1.0\r\nHost: a\r\n\r\n")?;
    std::io::Read::read(&mut client, &mut [0_u8; 64]).context("no answer")?;
    Ok(())
}

pub fn listener_closes(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    ensure!(stage.server()?.exit(0)?.success(), "it did not exit with 0");
    Ok(())
}

pub fn listener_killed(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.server()?.killed_by_a_shell().map(drop)
}

/// Nobody connects: each SYN is a packet of its own, and the kernel answers for the sockets that are not there.
pub fn syn_scan(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand("/ok", 200)?;
    let gateway = stage.gateway();
    let ports = (1..200).chain([gateway.port()]);
    scan::syn(stage.net().upstream(), stage.upstream().ip(), gateway.ip(), ports)?;
    stage.demand("/ok", 200)
}
