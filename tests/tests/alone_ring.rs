//! A healthy connection costs the ring buffer nothing: 500 of them and not one event.
//! Alone, because the counter it reads is the whole host's.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::client::{demand_200s, dial_refused};
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::nginx::{GatewayOptions, Nginx};
use rstrace_tests::server::Server;

const REQUESTS: usize = 500;
const RECEIVED: &str = "rstrace_events_received_total";
const ENDS: &[(&str, &str)] = &[("kind", "socket_end")];

/// How far the counter moves while one connection is refused, after `work` was done.
fn events_of(agent: &mut Agent, net: &Net, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = agent.scrape()?.sum(RECEIVED, ENDS);
    work()?;
    // The ring keeps its order: once this refusal has come out, whatever went in before it has too.
    let fence = net.free_upstream();
    dial_refused(net.gateway(), fence, 1)?;
    agent.wait_for("the fence", Duration::from_secs(20), |line| line["upstream"] == fence.to_string())?;
    Ok(agent.scrape()?.sum(RECEIVED, ENDS) - before)
}

#[test]
fn healthy_connections_send_nothing_through_the_ring() -> Result<()> {
    let net = Net::create(Link::Veth, Family::V4)?;
    let mut agent = Agent::start(false)?;
    let upstream = net.free_upstream();
    let _server = Server::start(net.upstream(), upstream, &[], None)?;
    let (ip, fence) = (net.gateway_ip(), net.free_upstream());
    let gateway = Nginx::start(net.gateway(), ip, upstream, fence, &GatewayOptions::default())?;
    let mut surplus = Vec::new();
    // Whatever else this machine does may break a connection meanwhile; three times is no accident.
    for attempt in 1..=3_u32 {
        let refusal = events_of(&mut agent, &net, || Ok(()))?;
        ensure!(refusal >= 1.0, "{RECEIVED}{ENDS:?} does not count a refused connection");
        let events = events_of(&mut agent, &net, || {
            demand_200s(net.gateway(), &gateway.url("/ok"), REQUESTS / 2)?;
            demand_200s(net.gateway(), &gateway.url("/until-close"), REQUESTS / 2)
        })?;
        let upstream = upstream.to_string();
        let labels = [("upstream", &*upstream), ("outcome", "established")];
        let connections = agent.scrape()?.sum("rstrace_upstream_connections_total", &labels);
        let expected = f64::from(attempt) * 500.0;
        ensure!(connections == expected, "{connections} of {expected} connections were counted");
        surplus.push(events - refusal);
        if events <= refusal {
            return Ok(());
        }
    }
    bail!("{REQUESTS} healthy connections sent {surplus:?} events through the ring")
}
