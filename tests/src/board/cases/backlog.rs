//! Accept queues that overflow, and connections that nobody ever accepts.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::{Case, Stage};
use crate::netns::Link;
use crate::nginx::GatewayOptions;

/// The limit that the frozen server gives to listen(2); one more may wait.
const LIMIT: &str = "2";
const PLACES: usize = 3;

pub const CASES: &[Case] = &[
    Case::new("syn_finds_it_full", syn_finds_it_full),
    Case::new("syn_finds_it_full_loopback", syn_finds_it_full).over(Link::Loopback),
    Case::new("never_accepted_1s", |stage| never_accepted(stage, 1)),
    Case::new("never_accepted_2s", |stage| never_accepted(stage, 2)),
    Case::new("client_gone_before_it_was_accepted", client_gone),
    Case::new("killed_before_it_accepted", killed_before_it_accepted),
    Case::new("last_ack_finds_it_full", |stage| race_for_the_last_place(stage, 504)).over(Link::Tun),
    Case::new("last_ack_is_reset", |stage| {
        stage.run_in_upstream(&["sysctl", "-qw", "net.ipv4.tcp_abort_on_overflow=1"])?;
        race_for_the_last_place(stage, 502)
    })
    .over(Link::Tun),
];

/// Occupies so many places of the accept queue, for as long as what it gives is held.
fn fill(stage: &Stage, places: usize) -> Result<Vec<TcpStream>> {
    let upstream = stage.upstream();
    let connect = || (0..places).map(|_| TcpStream::connect(upstream)).collect::<std::io::Result<Vec<_>>>();
    Ok(stage.net().gateway().enter(connect)??)
}

fn syn_finds_it_full(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--frozen", LIMIT])?;
    let held = fill(stage, PLACES)?;
    stage.start_nginx(&GatewayOptions {
        connect_timeout: Duration::from_secs(2),
        ..GatewayOptions::default()
    })?;
    stage.demand("/ok", 504)?;
    std::mem::forget(held);
    Ok(())
}

fn never_accepted(stage: &mut Stage, seconds: u64) -> Result<()> {
    stage.start_fault_server(&["--frozen", LIMIT])?;
    stage.start_nginx(&GatewayOptions {
        read_timeout: Duration::from_secs(seconds),
        ..GatewayOptions::default()
    })?;
    stage.demand("/ok", 504)
}

fn client_gone(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--frozen", LIMIT])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let outcome = stage.request("/ok", &["--max-time", "0.5"])?;
    ensure!(outcome.code == 28, "curl did not give up: {outcome:?}");
    stage.wait_for_the_end()
}

fn killed_before_it_accepted(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--frozen", LIMIT])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let request = stage.start_request("/ok", &[])?;
    stage.wait_for_connections(1)?;
    stage.wait_for_unread()?;
    stage.server()?.killed_by_a_shell()?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

/// On a slow link two handshakes begin while one place is left: the queue is looked at once more when they end.
fn race_for_the_last_place(stage: &mut Stage, second: u16) -> Result<()> {
    stage.start_fault_server(&["--frozen", LIMIT])?;
    let held = fill(stage, PLACES - 1)?;
    stage
        .start_nginx(&GatewayOptions { read_timeout: Duration::from_secs(4), ..GatewayOptions::default() })?;
    stage.tun()?.delay(Duration::from_millis(150));
    let requests = [stage.start_request("/first", &[])?, stage.start_request("/second", &[])?];
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.finish(Duration::from_secs(20))?.status);
    }
    statuses.sort_unstable();
    ensure!(statuses == [second.min(504), 504], "{statuses:?}\n{}", stage.all_said());
    std::mem::forget(held);
    Ok(())
}
