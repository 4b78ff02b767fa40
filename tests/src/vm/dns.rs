//! Names that do not resolve, by every way in which a process may ask: the hooks of the group `dns` are others
//! before Linux 6.3, and others for each family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;

use crate::results::Results;
use crate::smoke::VERDICT;
use crate::upstream::PATIENCE;

/// RCODE 3 (RFC 1035, 4.1.1).
const NXDOMAIN: u8 = 3;

/// Runs the plan's part on names.
pub fn run(results: &mut Results) {
    let mut agent = None;
    results.take("watch_with_dns_is_ready", || {
        agent = Some(Agent::watch(&["--all", "--with", "dns"])?);
        Ok(())
    });
    let Some(mut agent) = agent else { return };
    for (name, ip, connected) in [
        ("connected.v4", IpAddr::V4(Ipv4Addr::LOCALHOST), true),
        ("unconnected.v4", IpAddr::V4(Ipv4Addr::LOCALHOST), false),
        ("connected.v6", IpAddr::V6(Ipv6Addr::LOCALHOST), true),
        ("unconnected.v6", IpAddr::V6(Ipv6Addr::LOCALHOST), false),
    ] {
        results.take(&format!("dns_failure_{}", name.replace('.', "_")), || {
            nxdomain(&mut agent, name, SocketAddr::new(ip, 53), connected)
        });
    }
}

fn nxdomain(agent: &mut Agent, name: &str, resolver: SocketAddr, connected: bool) -> Result<()> {
    let answering = UdpSocket::bind(resolver).with_context(|| format!("bind {resolver}"))?;
    answering.set_read_timeout(Some(PATIENCE))?;
    let thread = thread::spawn(move || answer_once(&answering));
    ask(name, resolver, connected)?;
    thread.join().map_err(|_| anyhow::anyhow!("the resolver panicked"))??;
    let upstream = format!("dns:{name}");
    let line = agent.wait_for(&upstream, VERDICT, |line| line["upstream"] == *upstream)?.json;
    let right = line["cause"] == "dns_failure"
        && line["how"] == "connect_error"
        && line["peer"] == resolver.to_string()
        && line["owner"]["comm"] == "init";
    ensure!(right, "{line}");
    Ok(())
}

/// Asks for the IPv4 address and takes whatever comes back.
fn ask(name: &str, resolver: SocketAddr, connected: bool) -> Result<()> {
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(resolver.ip()), 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut answer = [0; 512];
    if connected {
        socket.connect(resolver)?;
        socket.send(&query(name)?)?;
        socket.recv(&mut answer).context("no answer")?;
    } else {
        socket.send_to(&query(name)?, resolver)?;
        socket.recv_from(&mut answer).context("no answer")?;
    }
    Ok(())
}

fn unspecified(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// An ordinary query with one question, of type A and class IN.
fn query(name: &str) -> Result<Vec<u8>> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len())?);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    Ok(message)
}

/// A resolver that knows no name.
fn answer_once(socket: &UdpSocket) -> Result<()> {
    let mut message = [0; 512];
    let (length, asker) = socket.recv_from(&mut message).context("no query")?;
    message[2] |= 0x80;
    message[3] = 0x80 | NXDOMAIN;
    socket.send_to(&message[..length], asker)?;
    Ok(())
}
