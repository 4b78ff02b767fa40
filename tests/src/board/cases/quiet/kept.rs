//! Connections that are kept: reused, closed when idle, and ended with the processes that hold them.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{start_gateway, start_web};
use crate::board::Stage;
use crate::client::demand_200s;
use crate::process::poll;

pub fn reuse(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    demand_200s(stage.net().gateway(), &stage.nginx()?.url("/ok"), 20)?;
    stage.wait_for_connections(1)
}

/// The gateway has one port, and each connection gets it while the server still remembers the one before (TIME_WAIT).
pub fn one_port(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.run_in_gateway(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=61000 61000"])?;
    demand_200s(stage.net().gateway(), &stage.nginx()?.url("/until-close"), 10)
}

pub fn idle_close_by_the_upstream(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand("/idle/700", 200)?;
    stage.wait_for_the_end()
}

pub fn idle_close_by_the_gateway(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "upstream tested {{ server {upstream}; keepalive 4; keepalive_timeout 1s; }}\n\
         server {{ listen {gateway}; proxy_http_version 1.1;\n\
         location / {{ proxy_pass http://tested; proxy_set_header Connection \"\"; }} }}"
    ))?;
    stage.demand("/ok", 200)?;
    stage.wait_for_connections(1)?;
    stage.wait_for_the_end()
}

/// A connection that was used and has been idle for longer than any answer takes.
fn keep(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand("/ok", 200)?;
    thread::sleep(Duration::from_millis(1200));
    stage.wait_for_connections(1)
}

pub fn exits(stage: &mut Stage) -> Result<()> {
    keep(stage)?;
    stage.server()?.exit(0)?;
    stage.wait_for_the_end()
}

pub fn signalled(stage: &mut Stage, signal: &str) -> Result<()> {
    keep(stage)?;
    let server = stage.server()?.pid();
    stage.signal_by_a_shell(signal, server)?;
    stage.wait_for_the_end()
}

pub fn killed_soon(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand("/ok", 200)?;
    stage.demand("/ok", 200)?;
    thread::sleep(Duration::from_millis(500));
    let server = stage.server()?.pid();
    stage.signal_by_a_shell("KILL", server)?;
    stage.wait_for_the_end()
}

/// The gateway is told something while it holds a request.
pub fn told(stage: &mut Stage, signal: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_gateway(stage, "")?;
    stage.demand("/ok", 200)?;
    let request = stage.start_request("/slow/1500", &[])?;
    stage.server()?.wait_for("/slow/1500")?;
    let (master, worker) = (stage.nginx()?.pid(), stage.nginx()?.worker_pids()[0]);
    stage.signal_by_a_shell(signal, master)?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 200, "{outcome:?}");
    poll("the end of the old worker", Duration::from_secs(10), || (!alive(worker)).then_some(()))
}

/// The upstream is told something while it holds an idle connection, which it closes.
pub fn upstream_told(stage: &mut Stage, signal: &str) -> Result<()> {
    start_web(stage, "location / { return 200 hello; }")?;
    start_gateway(stage, "")?;
    stage.demand("/", 200)?;
    stage.demand("/", 200)?;
    let master = stage.program("web")?.pid();
    stage.signal_by_a_shell(signal, master)?;
    stage.wait_for_the_end()
}

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn start_websocket(stage: &mut Stage) -> Result<std::net::TcpStream> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; proxy_http_version 1.1; proxy_read_timeout 1s;\n\
         location / {{ proxy_pass http://{upstream}; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; }} }}"
    ))?;
    let mut client = stage.dial(gateway)?;
    client
        .write_all(b"GET /websocket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        header.push(byte[0]);
    }
    ensure!(header.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&header));
    let mut answer = [0_u8; 5];
    client.write_all(b"hello")?;
    client.read_exact(&mut answer)?;
    Ok(client)
}

pub fn websocket(stage: &mut Stage) -> Result<()> {
    drop(start_websocket(stage)?);
    stage.wait_for_the_end()
}

pub fn websocket_idle(stage: &mut Stage) -> Result<()> {
    let mut client = start_websocket(stage)?;
    let mut nothing = [0];
    ensure!(client.read(&mut nothing)? == 0, "the tunnel is not closed");
    stage.wait_for_the_end()
}
