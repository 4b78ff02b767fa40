//! One fault after the other in a plain server behind nginx, in nginx itself, and in what their hosts give them.

mod clients;
mod gateway;
mod servers;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::{Case, Stage};
use crate::cgroup::MemoryCgroup;
use crate::client::Request;
use crate::netns::{Family, Link};
use crate::nginx::GatewayOptions;

pub const CASES: &[Case] = &[
    Case::new("process_crashed", |stage| breaks(stage, "/segv")),
    Case::new("process_crashed_loopback", |stage| breaks(stage, "/segv")).over(Link::Loopback),
    Case::new("process_crashed_with_two_in_flight", crashed_with_two_in_flight),
    Case::new("process_crashed_on_a_kept_connection", crashed_on_a_kept_connection),
    Case::new("process_aborted", |stage| breaks(stage, "/abort")),
    Case::new("process_exited", |stage| breaks(stage, "/exit/3")),
    Case::new("process_killed", process_killed),
    ipv6("process_killed_ipv6", process_killed),
    Case::new("oom_killed", oom_killed),
    Case::new("closed_without_response", |stage| breaks(stage, "/fin")),
    Case::new("reset_without_response", |stage| breaks(stage, "/reset")),
    ipv6("reset_without_response_ipv6", |stage| breaks(stage, "/reset")),
    Case::new("a_close_and_then_a_reset", a_close_and_then_a_reset),
    Case::new("closed_unread_data", closed_unread_data),
    Case::new("closed_unread_data_loopback", closed_unread_data).over(Link::Loopback),
    Case::new("reset_mid_response", reset_mid_response),
    Case::new("no_listener", no_listener),
    Case::new("no_listener_loopback", no_listener).over(Link::Loopback),
    ipv6("no_listener_ipv6", no_listener),
    Case::new("no_listener_any_more", no_listener_any_more),
    Case::new("client_gone", client_gone),
    Case::new("gateway_killed", gateway_killed),
    Case::new("no_local_port", no_local_port),
    Case::new("socket_destroyed_at_the_gateway", socket_destroyed_at_the_gateway),
    Case::new("socket_destroyed_at_the_upstream", servers::socket_destroyed),
    Case::new("part_and_close", |stage| servers::cut_short(stage, "/partial-fin")),
    Case::new("part_and_crash", |stage| servers::cut_short(stage, "/partial-segv")),
    Case::new("answered_early_body_unread", servers::answered_early_body_unread),
    Case::new("no_listener_after_a_kill", servers::no_listener_after_a_kill),
    Case::new("restart_gap", servers::restart_gap),
    Case::new("gateway_timeout", gateway::timeout),
    ipv6("gateway_timeout_loopback_ipv6", gateway::timeout).over(Link::Loopback),
    Case::new("gateway_stopped_fast", gateway::stopped_fast),
    Case::new("header_too_big", |stage| breaks(stage, "/big-header/200000")),
    Case::new("header_invalid", |stage| breaks(stage, "/bad-header")),
    Case::new("chunk_invalid", gateway::chunk_invalid),
    Case::new("not_http", gateway::not_http),
    Case::new("answer_discarded", gateway::answer_discarded),
    Case::new("client_reset", clients::resets),
    Case::new("client_reset_at_a_daemon", clients::resets_at_a_daemon),
    Case::new("client_half_closed", clients::half_closes),
    Case::new("client_gone_mid_response", clients::gone_mid_response),
    Case::new("client_too_slow", clients::too_slow),
];

/// Above what the server itself needs, below what would be felt by other cases.
const MEMORY: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_secs(20);

const fn ipv6(name: &'static str, run: fn(&mut Stage) -> Result<()>) -> Case {
    Case { family: Family::V6, ..Case::new(name, run) }
}

fn start(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())
}

/// The request makes the server do `path`, and the gateway answers 502.
fn breaks(stage: &mut Stage, path: &str) -> Result<()> {
    start(stage)?;
    stage.demand(path, 502)
}

/// A request that the server has read, and that it will never answer.
fn held(stage: &mut Stage) -> Result<Request> {
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    stage.wait_for_acknowledgement()?;
    Ok(request)
}

fn ends_with_502(request: Request) -> Result<()> {
    let outcome = request.finish(LIMIT)?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

/// The process that dies takes a second request along, which asked for nothing wrong.
fn crashed_with_two_in_flight(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let innocent = held(stage)?;
    stage.demand("/segv", 502)?;
    ends_with_502(innocent)
}

/// The second request on a connection that was kept open.
fn crashed_on_a_kept_connection(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions { keepalive: true, ..GatewayOptions::default() })?;
    stage.demand("/ok", 200)?;
    stage.demand("/segv", 502)
}

fn process_killed(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let request = held(stage)?;
    stage.server()?.killed_by_a_shell()?;
    ends_with_502(request)
}

fn oom_killed(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let cgroup = MemoryCgroup::create(MEMORY)?;
    cgroup.add(stage.server()?.pid())?;
    stage.demand("/oom", 502)
}

/// Two connections break one after the other, for two reasons.
fn a_close_and_then_a_reset(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.demand("/fin", 502)?;
    stage.demand("/reset", 502)
}

fn closed_unread_data(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&["--unread"])?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/ok", 502)
}

fn reset_mid_response(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let outcome = stage.request("/partial-reset", &[])?;
    ensure!(outcome.status == 200 && outcome.code != 0, "no truncated response: {outcome:?}");
    Ok(())
}

fn no_listener(stage: &mut Stage) -> Result<()> {
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/ok", 502)
}

fn no_listener_any_more(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.demand("/until-close", 200)?;
    stage.server()?.exit(3)?;
    stage.demand("/ok", 502)
}

fn client_gone(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let outcome = stage.request("/hang", &["--max-time", "0.5"])?;
    ensure!(outcome.code == 28, "curl did not give up: {outcome:?}");
    stage.wait_for_the_end()
}

/// To the client, which is on this host too, the worker is the upstream.
fn gateway_killed(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let request = held(stage)?;
    stage.signal_by_a_shell("KILL", stage.nginx()?.worker_pids()[0])?;
    let outcome = request.finish(LIMIT)?;
    ensure!(outcome.status == 0 && outcome.code != 28, "{outcome:?}");
    Ok(())
}

/// The gateway's host has two ports to give, above those of every upstream, and other connections to the same address
/// have both. Elsewhere they are still free.
fn no_local_port(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.run_in_gateway(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=60000 60001"])?;
    let _both = [stage.dial(stage.upstream())?, stage.dial(stage.upstream())?];
    stage.demand("/ok", 502)
}

fn socket_destroyed_at_the_gateway(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let request = held(stage)?;
    let port = stage.upstream().port();
    stage.run_in_gateway(&["ss", "-K", &format!("dport = :{port}")])?;
    ends_with_502(request)
}
