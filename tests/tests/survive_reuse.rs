//! What is used again: numbers of network namespaces, process ids.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Namespace, Net, in_passing, unique_port};
use rstrace_tests::pids::Reborn;
use rstrace_tests::process::poll;
use rstrace_tests::server::{COMM, Server};
use serde_json::Value;

const VERDICT: Duration = Duration::from_secs(20);

fn told_of(agent: &mut Agent, upstream: SocketAddr, netns: u64) -> Result<Value> {
    let upstream = upstream.to_string();
    let wanted = |line: &Value| line["upstream"] == upstream.as_str() && line["netns"] == netns;
    Ok(agent.wait_for(&upstream, VERDICT, wanted)?.json)
}

/// A gateway and its upstream on one machine, the agent, and an address to listen at.
fn stage() -> Result<(Net, Agent, SocketAddr)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let address = net.free_upstream();
    Ok((net, Agent::start(false)?, address))
}

/// A name that nobody else's namespace has.
fn name(what: &str) -> String {
    format!("rst{}-{what}{}", std::process::id(), unique_port())
}

/// Namespaces that come and go beside those of another test would take its numbers.
static NUMBERS: Mutex<()> = Mutex::new(());

/// A namespace with one of these numbers. The kernel gives the lowest that is free, so it is a matter of a few.
fn with_number_of(gone: &[u64]) -> Result<Namespace> {
    let mut others = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let next = Namespace::create(&name("next"))?;
        if gone.contains(&next.inode()) {
            return Ok(next);
        }
        others.push(next);
        if others.len() > 20 {
            // Those in question may not have been taken apart yet.
            others.clear();
        }
    }
    bail!("no namespace got a number of {gone:?}")
}

#[test]
fn who_listened_in_a_namespace_that_is_gone_is_not_named_in_the_next() -> Result<()> {
    let _alone = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut agent = Agent::start(false)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, unique_port()));
    // Several, since others make namespaces too.
    let mut before = Vec::new();
    for _ in 0..5 {
        let namespace = Namespace::create(&name("before"))?;
        let mut server = Server::start(&namespace, address, &[], None)?;
        let pid = server.pid();
        server.exit(3)?;
        dial_refused(&namespace, address, 1)?;
        let line = told_of(&mut agent, address, namespace.inode())?;
        ensure!(line["culprit"]["pid"] == pid, "{line}");
        before.push(namespace);
    }
    let gone: Vec<_> = before.iter().map(Namespace::inode).collect();
    drop(before);
    let next = with_number_of(&gone)?;
    agent.forget();
    dial_refused(&next, address, 1)?;
    let line = told_of(&mut agent, address, next.inode())?;
    ensure!(line["cause"] == "no_listener" && line["confidence"] == "proven", "{line}");
    ensure!(line["culprit"].is_null(), "nobody ever listened there: {line}");
    Ok(())
}

/// Made, used once and left, a thousand in all.
const BATCHES: usize = 20;
const AT_ONCE: usize = 50;

fn dial_in_passing(address: SocketAddr) -> Result<()> {
    let refused = in_passing(|| TcpStream::connect(address))?;
    let refused = refused.map_err(|error| error.kind());
    ensure!(matches!(refused, Err(ErrorKind::ConnectionRefused)), "{address}: {refused:?}");
    Ok(())
}

fn batch(address: SocketAddr) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(move || dial_in_passing(address))).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

#[test]
fn namespaces_come_and_go_by_the_thousand() -> Result<()> {
    let _alone = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut agent = Agent::start(false)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, unique_port()));
    let upstream = address.to_string();
    let mut told = 0;
    let mut early_kb = 0;
    for done in 1..=BATCHES {
        batch(address)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while told < done * AT_ONCE && Instant::now() < deadline {
            agent.read_for(Duration::from_millis(50))?;
            let ours = |line: &&Value| line["upstream"] == upstream.as_str();
            let lines = agent.seen().iter().map(|line| &line.json).filter(ours);
            told += lines.inspect(|line| assert_eq!(line["cause"], "no_listener", "{line}")).count();
            agent.forget();
        }
        ensure!(told == done * AT_ONCE, "{told} verdicts after {done} batches of {AT_ONCE}");
        if done == 2 {
            early_kb = agent.anonymous_kb()?;
        }
    }
    let late_kb = agent.anonymous_kb()?;
    eprintln!(
        "{told} namespaces: {early_kb} kB of the agent's own memory after {}, {late_kb} kB in the end",
        2 * AT_ONCE
    );
    ensure!(late_kb < early_kb + 4096, "{early_kb} kB, then {late_kb} kB");
    within_their_bounds(&agent)?;

    let net = Net::create(Link::Veth, Family::V4)?;
    let address = net.free_upstream();
    let mut server = Server::start(net.upstream(), address, &[], None)?;
    let pid = server.pid();
    server.exit(3)?;
    dial_refused(net.gateway(), address, 1)?;
    let line = told_of(&mut agent, address, net.gateway().inode())?;
    ensure!(line["culprit"]["pid"] == pid && line["culprit"]["exit"]["code"] == 3, "{line}");
    Ok(())
}

fn within_their_bounds(agent: &Agent) -> Result<()> {
    let scrape = agent.scrape()?;
    let tables: Vec<_> = scrape.matching("rstrace_table_entries", &[]).collect();
    ensure!(tables.iter().any(|sample| sample.label("table") == Some("network_namespaces")), "{tables:?}");
    for sample in tables {
        let table = sample.label("table").context("a table without a name")?;
        let capacity = scrape.sum("rstrace_table_capacity", &[("table", table)]);
        ensure!(sample.value <= capacity, "{table}: {} entries, {capacity} at most", sample.value);
    }
    Ok(())
}

/// A program of another name that lives for as long as it is held.
fn stranger(pid: u32) -> Result<Reborn> {
    Reborn::run(pid, "/bin/sleep", &["600"])
}

#[test]
fn who_has_the_pid_now_did_not_listen_then() -> Result<()> {
    let (net, mut agent, address) = stage()?;
    let mut server = Server::start(net.upstream(), address, &[], None)?;
    let pid = server.pid();
    let killer = server.killed_by_a_shell()?;
    let stranger = stranger(pid)?;
    ensure!(stranger.pid() == pid, "{stranger:?}");
    dial_refused(net.gateway(), address, 1)?;
    let line = told_of(&mut agent, address, net.gateway().inode())?;
    let culprit = &line["culprit"];
    ensure!(culprit["pid"] == pid && culprit["comm"] == COMM, "{culprit}");
    ensure!(culprit["exit"]["signal"] == "SIGKILL" && culprit["killed_by"]["pid"] == killer, "{culprit}");
    Ok(())
}

/// The first verdict on a connection to `upstream` that was made.
fn told_of_a_connection(agent: &mut Agent, upstream: SocketAddr) -> Result<Value> {
    let upstream = upstream.to_string();
    let made = |line: &Value| line["upstream"] == upstream.as_str() && line["impact"] != "connect_failed";
    Ok(agent.wait_for(&upstream, VERDICT, made)?.json)
}

/// The verdict on a connection to a script that runs as the process `pid`.
fn told_of_the_next(
    pid: u32,
    net: &Net,
    script: &str,
    agent: &mut Agent,
    address: SocketAddr,
) -> Result<Value> {
    let _reborn = python(pid, net, script, address)?;
    net.gateway().enter(|| ask(address))??;
    told_of_a_connection(agent, address)
}

/// Python in the namespace of the upstream, as the process `pid`.
fn python(pid: u32, net: &Net, script: &str, address: SocketAddr) -> Result<Reborn> {
    let netns = format!("--net={}", net.upstream().path().display());
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    Reborn::run(pid, "/usr/bin/nsenter", &[&netns, "python3", "-c", script, &ip, &port])
}

const EXITS: &str = "
import socket, sys
accepted, _ = socket.create_server((sys.argv[1], int(sys.argv[2]))).accept()
accepted.recv(9)
sys.exit(4)
";

#[test]
fn an_end_is_not_that_of_who_had_the_pid_before() -> Result<()> {
    let (net, mut agent, address) = stage()?;
    let mut before = Server::start(net.upstream(), address, &[], None)?;
    let pid = before.pid();
    before.killed_by_a_shell()?;
    let line = told_of_the_next(pid, &net, EXITS, &mut agent, address)?;
    let culprit = &line["culprit"];
    ensure!(line["cause"] == "process_exited" && culprit["pid"] == pid, "{line}");
    ensure!(culprit["exit"]["code"] == 4 && culprit["killed_by"].is_null(), "{culprit}");
    Ok(())
}

/// Starts one that starts a server, and kills it once it has been asked something.
const KILLS: &str = "
import os, signal, socket, sys, time
def stay_with(parent):
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(0)
first = os.getpid()
if os.fork() == 0:
    asked, ask = os.pipe()
    launcher = os.getpid()
    server = os.fork()
    if server == 0:
        accepted, _ = socket.create_server((sys.argv[1], int(sys.argv[2]))).accept()
        accepted.recv(9)
        os.write(ask, b'x')
        stay_with(launcher)
    os.read(asked, 1)
    os.kill(server, signal.SIGKILL)
    os.wait()
    stay_with(first)
os.wait()
";

#[test]
fn who_has_the_pid_of_a_former_listener_is_no_master_of_workers() -> Result<()> {
    let (net, mut agent, address) = stage()?;
    let mut before = Server::start(net.upstream(), address, &[], None)?;
    let pid = before.pid();
    before.exit(0)?;
    let line = told_of_the_next(pid, &net, KILLS, &mut agent, address)?;
    ensure!(line["cause"] == "process_killed", "its killer serves nobody: {line}");
    Ok(())
}

/// Sends a request, once somebody listens, and reads to the end.
fn ask(address: SocketAddr) -> Result<()> {
    let connect = || TcpStream::connect(address).ok();
    let mut stream = poll(&format!("a listener at {address}"), Duration::from_secs(10), connect)?;
    stream.write_all(b"request")?;
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error).context("wait for the end"),
        _ => Ok(()),
    }
}
