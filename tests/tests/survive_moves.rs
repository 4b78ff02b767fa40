//! A listener that moves between processes: what becomes of it is told of the one that holds it then.

use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::audit::occupy;
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::{Guarded, Lines, poll};
use rstrace_tests::server::kill_by_a_shell;
use serde_json::Value;

/// Each changes hands for good in a way of its own, see `fixtures/servers/moving/moving.py`.
const HOWS: [&str; 3] = ["passed", "forked", "reused"];
const VERDICT: Duration = Duration::from_secs(20);

/// A listener after it has changed hands.
struct Moved {
    /// Who listened first.
    starter: Guarded,
    heir: u32,
}

impl Moved {
    fn start(net: &Net, how: &str, address: SocketAddr, backlog: u32) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/servers/moving/moving.py");
        let mut command = net.upstream().command("python3")?;
        command.args([script, how, &address.ip().to_string(), &address.port().to_string()]);
        command.arg(backlog.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut starter = Guarded::spawn(&mut command)?;
        let said = Lines::of(starter.child().stdout.take().context("its stdout is piped")?);
        let line = said.next(Instant::now() + Duration::from_secs(10))?.context("nobody holds it")?;
        let heir = line.text.strip_prefix("held by ").and_then(|pid| pid.parse().ok());
        let heir = heir.with_context(|| line.text.clone())?;
        Ok(Self { starter, heir })
    }

    /// The same once the first has let go of it, by its end.
    fn for_good(net: &Net, how: &str, address: SocketAddr, backlog: u32) -> Result<Self> {
        let mut moved = Self::start(net, how, address, backlog)?;
        let status = moved.starter.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "the first ended with {status}");
        Ok(moved)
    }
}

fn verdict(agent: &mut Agent, address: SocketAddr, cause: &str) -> Result<Value> {
    let upstream = address.to_string();
    let wanted = |line: &Value| line["upstream"] == upstream.as_str() && line["cause"] == cause;
    let found = agent.wait_for(&format!("{cause} at {upstream}"), VERDICT, wanted);
    Ok(found.with_context(|| format!("{:#?}", agent.seen()))?.json)
}

fn names(line: &Value, comm: &str, pid: u32) -> Result<()> {
    let culprit = &line["culprit"];
    ensure!(culprit["pid"] == pid && culprit["comm"] == comm, "the culprit is {culprit}, not {comm}[{pid}]");
    Ok(())
}

#[test]
fn who_was_left_with_it_and_was_killed_listened_last() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let mut agent = Agent::start(false)?;
    for how in HOWS {
        let address = net.free_upstream();
        let moved = Moved::for_good(&net, how, address, 16)?;
        net.gateway().enter(|| TcpStream::connect(address))??;
        let killer = kill_by_a_shell(moved.heir)?;
        poll("a refusal", VERDICT, || dial_refused(net.gateway(), address, 1).ok())?;
        let line = verdict(&mut agent, address, "no_listener")?;
        names(&line, "heir", moved.heir).context(how)?;
        let culprit = &line["culprit"];
        ensure!(culprit["exit"]["signal"] == "SIGKILL", "{how}: {culprit}");
        ensure!(culprit["killed_by"]["pid"] == killer, "{how}: {culprit}");
    }
    Ok(())
}

/// The verdict on a connect that finds the queue full, with what waits there: it is the heir's.
fn full_queue_of_the_heir(
    net: &Net,
    agent: &mut Agent,
    address: SocketAddr,
    moved: &Moved,
) -> Result<(Value, Vec<TcpStream>)> {
    let waiting = net.gateway().enter(|| fill(address))??;
    let line = verdict(agent, address, "accept_queue_full")?;
    names(&line, "heir", moved.heir)?;
    Ok((line, waiting))
}

#[test]
fn a_full_queue_is_that_of_who_was_left_with_it() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    // From the start on the agent can read what the kernel counts in there.
    let _occupant = occupy(net.upstream())?;
    let mut agent = Agent::start(false)?;
    for how in HOWS {
        let address = net.free_upstream();
        let moved = Moved::for_good(&net, how, address, 1)?;
        let (line, _waiting) = full_queue_of_the_heir(&net, &mut agent, address, &moved).context(how)?;
        let counted = line["evidence"].to_string();
        ensure!(counted.contains("accept queues in network namespace"), "{how}: {counted}");
        ensure!(counted.contains("(ListenOverflows)"), "{how}: {counted}");
    }
    Ok(())
}

#[test]
fn a_full_queue_is_not_that_of_a_worker_that_is_gone() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let mut agent = Agent::start(false)?;
    let address = net.free_upstream();
    let moved = Moved::start(&net, "shared", address, 1)?;
    let (_, _waiting) = full_queue_of_the_heir(&net, &mut agent, address, &moved)?;
    kill_by_a_shell(moved.heir)?;
    agent.forget();
    ensure!(net.gateway().enter(|| fill(address))??.is_empty(), "there was room again");
    let line = verdict(&mut agent, address, "accept_queue_full")?;
    names(&line, "starter", moved.starter.pid())
}

/// Connects until a SYN and the next one get no answer.
fn fill(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut waiting = Vec::new();
    for _ in 0..8 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(2500)) {
            Ok(stream) => waiting.push(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(waiting),
            Err(error) => return Err(error).context("fill the queue"),
        }
    }
    bail!("a queue of 1 took {} connections", waiting.len())
}
