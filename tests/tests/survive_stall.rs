//! An agent that was held up, as on a host that is short of CPU, judges with all that has happened meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::{Guarded, Lines};

/// It closes its only connection without an answer, and exits with 3 when it is told to.
const SERVER: &str = "
import os, socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
print('listens', flush=True)
c, _ = s.accept()
c.recv(100)
c.close()
sys.stdin.readline()
os._exit(3)
";

const LIMIT: Duration = Duration::from_secs(20);
/// After its close the end of a process belongs to the story for 200 ms.
const STORY: Duration = Duration::from_millis(150);
/// Whichever of the two came first in the agent's turn, the clock or the ring, would show in so many.
const ROUNDS: usize = 8;

/// What of the story came late is decided by this process: None if it took longer than the story does.
fn round(net: &Net, agent: &mut Agent, address: SocketAddr) -> Result<Option<()>> {
    let mut command = net.upstream().command("python3")?;
    command.args(["-c", SERVER, &address.ip().to_string(), &address.port().to_string()]);
    let mut server = Guarded::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let said = Lines::of(server.child().stdout.take().context("its stdout is piped")?);
    said.next(Instant::now() + LIMIT)?.context("it does not listen")?;
    let mut leg = net.gateway().enter(|| TcpStream::connect(address))??;
    leg.write_all(b"GET / HTTP/1.1\r\nHost: upstream\r\n\r\n")?;
    ensure!(leg.read(&mut [0; 10])? == 0, "it answered");
    let closed = Instant::now();
    // The agent takes the close in before it is stopped; if it does not, this round shows nothing.
    std::thread::sleep(Duration::from_millis(30));
    agent.signal(libc::SIGSTOP);
    server.child().stdin.take().context("its stdin is piped")?.write_all(b"\n")?;
    ensure!(server.wait(LIMIT)?.code() == Some(3), "it ended otherwise");
    let in_time = closed.elapsed() < STORY;
    // Beyond the time at which the close would have been judged.
    std::thread::sleep(Duration::from_millis(400));
    agent.signal(libc::SIGCONT);
    drop(leg);
    let upstream = address.to_string();
    let line = agent.wait_for(&upstream, LIMIT, |line| line["upstream"] == upstream.as_str())?.json;
    if !in_time {
        eprintln!("the server took {:?} to exit: once more", closed.elapsed());
        return Ok(None);
    }
    ensure!(line["cause"] == "process_exited" && line["culprit"]["exit"]["code"] == 3, "{line}");
    Ok(Some(()))
}

#[test]
fn what_came_during_a_stall_is_known_to_the_judge() -> Result<()> {
    let net = Net::create(Link::Veth, Family::V4)?;
    let mut agent = Agent::start(false)?;
    let mut shown = 0;
    for _ in 0..4 * ROUNDS {
        shown += usize::from(round(&net, &mut agent, net.free_upstream())?.is_some());
        if shown == ROUNDS {
            return Ok(());
        }
    }
    bail!("only {shown} rounds were quick enough to show it")
}
