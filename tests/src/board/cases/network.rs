//! What the network does: hosts that are gone, packets that vanish, RSTs that nobody sent, hosts that forgot.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::{Case, Stage};
use crate::netns::Link;
use crate::nginx::GatewayOptions;
use crate::process::poll;

pub const CASES: &[Case] = &[
    Case::new("no_route", |stage| no_way_to(stage, None)),
    Case::new("unreachable_route", |stage| no_way_to(stage, Some("unreachable"))),
    Case::new("prohibited_route", |stage| no_way_to(stage, Some("prohibit"))),
    Case::new("no_such_host", no_such_host),
    Case::new("silent_host", silent_host),
    Case::new("blackhole_at_connect", blackhole_at_connect).over(Link::Routed),
    Case::new("request_never_arrives", request_never_arrives).over(Link::Tun),
    Case::new("path_breaks_after_the_request", path_breaks_after_the_request).over(Link::Tun),
    Case::new("keepalive_probes_unanswered", keepalive_probes_unanswered).over(Link::Tun),
    Case::new("reset_forged_to_both", |stage| forged(stage, true)).over(Link::Tun),
    Case::new("reset_forged_to_the_gateway", |stage| forged(stage, false)).over(Link::Tun),
    Case::new("rebooted_host", rebooted_host).over(Link::Tun),
];

fn timeouts(connect_s: u64, read_s: u64) -> GatewayOptions {
    let [connect_timeout, read_timeout] = [connect_s, read_s].map(Duration::from_secs);
    GatewayOptions { connect_timeout, read_timeout, keepalive: true, ..GatewayOptions::default() }
}

/// The gateway's own routes do not lead to the upstream: connect(2) fails before a SYN is sent.
fn no_way_to(stage: &mut Stage, route: Option<&str>) -> Result<()> {
    stage.set_upstream("192.0.2.7:80".parse()?);
    if let Some(route) = route {
        stage.run_in_gateway(&["ip", "route", "add", route, "192.0.2.0/24"])?;
    }
    stage.start_nginx(&timeouts(2, 2))?;
    stage.demand("/ok", 502)
}

/// Nobody on the link has the address: neighbour discovery fails after three tries.
fn no_such_host(stage: &mut Stage) -> Result<()> {
    let gone = SocketAddr::new(stage.net().host(77).parse()?, stage.upstream().port());
    stage.set_upstream(gone);
    stage.start_nginx(&timeouts(10, 10))?;
    stage.demand("/ok", 502)
}

/// The link-layer address is known, and nobody takes the frames.
fn silent_host(stage: &mut Stage) -> Result<()> {
    let dead = stage.net_mut().dead_upstream()?;
    stage.set_upstream(dead);
    stage.start_nginx(&timeouts(2, 10))?;
    stage.demand("/ok", 504)
}

fn blackhole_at_connect(stage: &mut Stage) -> Result<()> {
    let upstream = stage.upstream().ip().to_string();
    stage.run_in_router(&["ip", "route", "replace", "blackhole", &upstream])?;
    stage.start_nginx(&timeouts(2, 10))?;
    stage.demand("/ok", 504)
}

/// A middlebox has forgotten the idle flow: the next request on it leaves and nothing comes back.
fn request_never_arrives(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&timeouts(2, 3))?;
    stage.demand("/ok", 200)?;
    stage.tun()?.cut(true);
    stage.demand("/ok", 504)
}

fn path_breaks_after_the_request(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&timeouts(2, 2))?;
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    stage.wait_for_acknowledgement()?;
    stage.tun()?.cut(true);
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 504, "{outcome:?}");
    Ok(())
}

fn keepalive_probes_unanswered(stage: &mut Stage) -> Result<()> {
    for setting in ["time=1", "intvl=1", "probes=2"] {
        stage.run_in_gateway(&["sysctl", "-qw", &format!("net.ipv4.tcp_keepalive_{setting}")])?;
    }
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; location / {{ proxy_pass http://{upstream}; proxy_socket_keepalive on; }} }}"
    ))?;
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    stage.wait_for_acknowledgement()?;
    stage.tun()?.cut(true);
    let outcome = request.finish(Duration::from_secs(20))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn forged(stage: &mut Stage, both: bool) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&timeouts(2, 10))?;
    let request = stage.start_request("/hang", &[])?;
    stage.server()?.wait_for("/hang")?;
    stage.wait_for_acknowledgement()?;
    if both {
        stage.tun()?.forge_to_upstream()?;
    }
    stage.tun()?.forge_to_gateway()?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

/// The host comes back without its connections, and its server listens again.
fn rebooted_host(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&timeouts(2, 3))?;
    stage.demand("/ok", 200)?;
    stage.tun()?.cut(true);
    let port = format!("sport = :{}", stage.upstream().port());
    stage.run_in_upstream(&["ss", "-K", &port])?;
    // The link may read the RST that killed it later than this thread goes on.
    poll("the link to swallow the RST", Duration::from_secs(10), || {
        (stage.tun().ok()?.swallowed_resets_to_gateway() > 0).then_some(())
    })?;
    stage.tun()?.cut(false);
    stage.demand("/ok", 502)
}
