//! HAProxy as the gateway: what it does differently is to abort with a RST where nginx closes.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::dial::half_close;
use crate::board::{Case, Stage};
use crate::netns::Link;

pub const CASES: &[Case] = &[
    Case::new("closed_without_response", |stage| breaks(stage, "/fin")),
    Case::new("reset_without_response", |stage| breaks(stage, "/reset")),
    Case::new("closed_unread_data", closed_unread_data),
    Case::new("part_and_close", |stage| cut_short(stage, "/partial-fin")),
    Case::new("part_and_reset", |stage| cut_short(stage, "/partial-reset")),
    Case::new("part_and_crash", |stage| cut_short(stage, "/partial-segv")),
    Case::new("process_crashed", |stage| breaks(stage, "/segv")),
    Case::new("process_killed", process_killed),
    Case::new("no_listener", no_listener),
    Case::new("server_timeout_1s", |stage| server_timeout(stage, "1s")),
    Case::new("server_timeout_2s", |stage| server_timeout(stage, "2s")),
    Case::new("connect_timeout", connect_timeout),
    Case::new("client_gone", client_gone),
    Case::new("client_gone_unnoticed", client_gone_unnoticed),
    Case::new("malformed_header", |stage| breaks(stage, "/bad-header")),
    Case::new("header_too_big", |stage| breaks(stage, "/big-header/200000")),
    Case::new("interim_answer", interim_answer),
    Case::new("tcp_checks", |stage| checks(stage, "")),
    Case::new("http_checks", |stage| checks(stage, "option httpchk GET /ok")),
    Case::new("check_of_a_dead_server", check_of_a_dead_server),
    Case::new("reload", reload),
    Case::new("soft_stop", soft_stop),
    Case::new("hard_stop", |stage| ends_with_a_request(stage, "TERM")),
    Case::new("gateway_killed", |stage| ends_with_a_request(stage, "KILL")),
    Case::new("kept_connection_reused", kept_connection_reused),
    Case::new("keepalive_race", keepalive_race).over(Link::Tun),
    Case::new("tunnel_closed_by_the_client", tunnel_closed_by_the_client),
    Case::new("tunnel_half_closed", tunnel_half_closed),
    Case::new("tunnel_idle_too_long", tunnel_idle_too_long),
];

/// `defaults` are further lines of that section, `server` further words about the server.
fn start(stage: &mut Stage, defaults: &str, server: &str) -> Result<()> {
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_haproxy(&format!(
        "global\n log stdout format raw local0\n\
         defaults\n log global\n mode http\n option httplog\n retries 0\n\
         timeout connect 5s\n timeout client 20s\n timeout server 20s\n {defaults}\n\
         frontend clients\n bind {gateway}\n default_backend servers\n\
         backend servers\n server upstream {upstream} {server}\n"
    ))
}

fn breaks(stage: &mut Stage, path: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    stage.demand(path, 502)
}

fn closed_unread_data(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--unread"])?;
    start(stage, "", "")?;
    stage.demand("/ok", 502)
}

fn cut_short(stage: &mut Stage, path: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    let outcome = stage.request(path, &[])?;
    ensure!(outcome.status == 200 && outcome.code != 0, "no truncated response: {outcome:?}");
    Ok(())
}

fn process_killed(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    stage.server()?.killed_by_a_shell()?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn no_listener(stage: &mut Stage) -> Result<()> {
    start(stage, "", "")?;
    stage.demand("/ok", 503)
}

fn server_timeout(stage: &mut Stage, timeout: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, &format!("timeout server {timeout}"), "")?;
    stage.demand("/hang", 504)
}

fn connect_timeout(stage: &mut Stage) -> Result<()> {
    let dead = stage.net_mut().dead_upstream()?;
    stage.set_upstream(dead);
    start(stage, "timeout connect 2s", "")?;
    stage.demand("/ok", 503)
}

fn client_gone(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "option abortonclose", "")?;
    let outcome = stage.request("/hang", &["--max-time", "0.5"])?;
    ensure!(outcome.code == 28, "curl did not give up: {outcome:?}");
    stage.wait_for_the_end()
}

/// The answer comes when nobody waits for it any more.
fn client_gone_unnoticed(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    let outcome = stage.request("/slow/1500", &["--max-time", "0.5"])?;
    ensure!(outcome.code == 28, "curl did not give up: {outcome:?}");
    stage.program("haproxy")?.wait_to_say("/slow/1500", Duration::from_secs(10))
}

fn interim_answer(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    stage.demand("/continue", 200)
}

/// Many checks of a healthy server, and a request that nothing happens to.
fn checks(stage: &mut Stage, defaults: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, defaults, "check inter 100ms")?;
    // Not to wait for anything: the checks are what is played.
    thread::sleep(Duration::from_secs(2));
    stage.demand("/ok", 200)
}

/// One check finds nobody, and from then on nobody is asked.
fn check_of_a_dead_server(stage: &mut Stage) -> Result<()> {
    start(stage, "", "check inter 60s fall 1")?;
    stage.program("haproxy")?.wait_to_say("is DOWN", Duration::from_secs(10))?;
    stage.demand("/ok", 503)
}

/// The worker that holds the request finishes it while a new one serves already.
fn reload(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    // Long enough for a new worker to start beside it on a busy host.
    let request = stage.start_request("/slow/5000", &[])?;
    stage.server()?.wait_for("/slow/5000")?;
    let (master, workers) = (stage.program("haproxy")?.pid(), stage.program("haproxy")?.children());
    stage.signal_by_a_shell("USR2", master)?;
    stage.program("haproxy")?.wait_for_children(workers.len() + 1)?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 200, "{outcome:?}");
    stage.demand("/ok", 200)
}

fn soft_stop(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    let request = stage.start_request("/slow/1500", &[])?;
    stage.server()?.wait_for("/slow/1500")?;
    let master = stage.program("haproxy")?.pid();
    stage.signal_by_a_shell("USR1", master)?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 200, "{outcome:?}");
    // Whatever connection it still holds, it waits no longer for its client than `timeout client` says.
    stage.program("haproxy")?.wait(Duration::from_secs(30))
}

/// The worker is told to end at once, or killed, while it holds a request.
fn ends_with_a_request(stage: &mut Stage, signal: &str) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "", "")?;
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    let workers = stage.program("haproxy")?.wait_for_children(1)?;
    stage.signal_by_a_shell(signal, workers[0])?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 0, "{outcome:?}");
    Ok(())
}

fn kept_connection_reused(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "http-reuse always", "")?;
    for _ in 0..20 {
        stage.demand("/ok", 200)?;
    }
    stage.wait_for_connections(1)
}

/// The server's idle close is still on its way when the next request leaves.
fn keepalive_race(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start(stage, "http-reuse always", "")?;
    stage.tun()?.delay(Duration::from_millis(300));
    stage.demand("/idle/1000", 200)?;
    // The server closes 700 ms after its answer has arrived here, and that arrives after 1,000 ms.
    thread::sleep(Duration::from_millis(650));
    stage.demand("/ok", 502)
}

fn tunnel(stage: &mut Stage, defaults: &str) -> Result<()> {
    stage.start_fault_server(&["--echo"])?;
    start(stage, &format!("mode tcp\n option tcplog\n {defaults}"), "")
}

fn tunnel_closed_by_the_client(stage: &mut Stage) -> Result<()> {
    tunnel(stage, "")?;
    let mut client = stage.dial(stage.gateway())?;
    let mut answer = [0_u8; 5];
    client.write_all(b"hello")?;
    client.read_exact(&mut answer)?;
    drop(client);
    stage.wait_for_the_end()
}

fn tunnel_half_closed(stage: &mut Stage) -> Result<()> {
    tunnel(stage, "")?;
    let mut client = stage.dial(stage.gateway())?;
    client.write_all(b"hello ")?;
    let said = half_close(client)?;
    ensure!(said == "hello bye\n", "the server said {said:?}");
    stage.wait_for_the_end()
}

fn tunnel_idle_too_long(stage: &mut Stage) -> Result<()> {
    tunnel(stage, "timeout tunnel 1s")?;
    let mut client = stage.dial(stage.gateway())?;
    let mut answer = [0_u8; 5];
    client.write_all(b"hello")?;
    client.read_exact(&mut answer)?;
    // The server's goodbye to HAProxy's FIN comes through now and then.
    let mut rest = String::new();
    client.read_to_string(&mut rest)?;
    ensure!(["", "bye\n"].contains(&&*rest), "after the answer came {rest:?}");
    stage.wait_for_the_end()
}
