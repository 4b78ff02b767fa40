//! Killed at any moment: nothing is left that hurts the next start, which picks up every open connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary, daemon, free_port};
use rstrace_tests::bpf_objects;
use rstrace_tests::client::{dial_refused, reset};
use rstrace_tests::netns::{Family, Link, Net, require_root};
use rstrace_tests::process::{Ended, Guarded, poll};
use serde_json::Value;

/// A connection opened before an agent that was killed, and broken after the next one's start.
mod picked_up {
    rstrace_tests::over_every_path!(RestartedHost:
        process_crashed, process_killed, gateway_timeout_1s, closed_unread_data,
        process_crashed_on_an_older_connection,
    );
}

const ROUNDS: u32 = 20;
const READY: Duration = Duration::from_secs(30);

/// A daemon in `folder`, the moment after it was started.
fn start(folder: &Path, listen: std::net::SocketAddr) -> Result<Guarded> {
    let mut command = Command::new(binary()?);
    daemon(&mut command, folder, listen).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Guarded::spawn(&mut command)
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_that_hurts_the_next_start() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let listen = free_port()?;
    let net = Net::create(Link::Loopback, Family::V4)?;
    let refusing = net.free_upstream();
    let (nobodys, pinned) = (bpf_objects::of_nobody()?, bpf_objects::pinned()?);

    // From the first moment of its start to well into its work.
    let begun = Instant::now();
    let mut agent = start(folder.path(), listen)?;
    // /readyz has a thread of its own; who answers on the socket also listens to signals.
    let socket = folder.path().join("s.sock");
    let ready = || half_a_line(&socket).ok();
    poll("the agent to be ready", READY, ready)?;
    let span = begun.elapsed() * 3 / 2;
    let held = bpf_objects::held_by_process(agent.pid())?;
    ensure!(held.len() > 20, "it holds {held:?}: this test would see nothing");
    agent.signal(libc::SIGKILL);
    agent.wait(READY)?;
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let mut agent = start(folder.path(), listen)?;
        while begun.elapsed() < span * round / ROUNDS {
            dial_refused(net.gateway(), refusing, 10)?;
        }
        agent.signal(libc::SIGKILL);
        agent.wait(READY)?;
    }
    // The kernel lets go of them a moment later; what others load and leave meanwhile comes and goes.
    poll("programs and maps of nobody to be gone", Duration::from_secs(20), || {
        let left: BTreeSet<_> = bpf_objects::of_nobody().ok()?.difference(&nobodys).copied().collect();
        left.is_empty().then_some(())
    })?;
    ensure!(bpf_objects::pinned()? == pinned, "something is pinned: {:?}", bpf_objects::pinned()?);
    ensure!(socket.exists(), "no socket was left: this test would see nothing");
    let begun = Instant::now();
    let mut agent = start(folder.path(), listen)?;
    poll("the next agent to be ready", READY, ready)?;
    eprintln!(
        "{ROUNDS} times killed within {span:?} of its start; the next was ready after {:?}",
        begun.elapsed()
    );
    agent.signal(libc::SIGTERM);
    ensure!(agent.wait(READY)?.code() == Some(0), "it did not end by itself");
    let left: Vec<_> = std::fs::read_dir(folder.path())?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "an agent that ends by itself left {left:?}");
    Ok(())
}

#[test]
fn of_many_that_start_at_once_on_a_stale_socket_one_serves() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    let over = AtomicBool::new(false);
    let (over, socket) = (&over, &socket);
    let others: Vec<Ended> = std::thread::scope(|scope| -> Result<Vec<Ended>> {
        let agents: Vec<_> = (0..6)
            .map(|_| {
                let listen = free_port()?;
                let mut command = Command::new(binary()?);
                command.args(["agent", "--listen", &listen.to_string(), "--socket"]).arg(socket);
                Ok(scope.spawn(move || one_of_many(&mut command, over)))
            })
            .collect::<Result<_>>()?;
        let alive = poll("all but one to end", READY, || {
            (agents.iter().filter(|agent| !agent.is_finished()).count() == 1).then_some(())
        });
        // Who has the lock makes the socket a moment later.
        let served = poll("its socket", READY, || UnixStream::connect(socket).ok());
        over.store(true, Ordering::Relaxed);
        let ended = agents.into_iter().map(|a| a.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        let ended = ended.collect::<Result<Vec<_>>>()?;
        alive.with_context(|| format!("{ended:?}"))?;
        served.context("the one that is left has lost its socket")?;
        Ok(ended)
    })?;
    let refused: Vec<_> = others.iter().filter(|ended| ended.code == Some(1)).collect();
    ensure!(refused.len() == others.len() - 1, "{others:?}");
    for ended in refused {
        let text = &ended.stderr;
        ensure!(
            text.trim_end().lines().count() == 1 && text.contains("an agent is running already"),
            "{text:?}"
        );
    }
    Ok(())
}

/// Runs to its end, or until `over`.
fn one_of_many(command: &mut Command, over: &AtomicBool) -> Result<Ended> {
    let limit = Duration::from_secs(60);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut agent = Guarded::spawn(command)?;
    let mut stderr = agent.child().stderr.take().context("its stderr is piped")?;
    let status = poll("an end", limit, || {
        if over.load(Ordering::Relaxed) {
            agent.signal(libc::SIGTERM);
        }
        agent.child().try_wait().ok().flatten()
    })?;
    let mut text = String::new();
    stderr.read_to_string(&mut text)?;
    Ok(Ended { code: status.code(), stdout: String::new(), stderr: text })
}

/// Reads half a line of the stream and is gone, with the rest unread.
fn half_a_line(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"{\"schema\":1,\"want\":\"watch\"}\n{\"half")?;
    Ok(stream.read_exact(&mut [0; 20])?)
}

fn watch_rudely(agent: &Agent) -> Result<()> {
    half_a_line(&agent.socket())?;
    let mut web = TcpStream::connect(agent.listen())?;
    web.write_all(b"GET /metr")?;
    reset(web);
    Ok(())
}

#[test]
fn watchers_that_leave_in_the_middle_of_a_line_cost_nobody_else_anything() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let refusing = net.free_upstream();
    let mut agent = Agent::start(false)?;
    let socket = agent.socket().to_string_lossy().into_owned();
    let mut other = Agent::watch(&["--socket", &socket, "--upstream", &refusing.to_string()])?;
    const EACH: u32 = 10;
    for round in 0..ROUNDS {
        watch_rudely(&agent).with_context(|| format!("round {round}"))?;
        dial_refused(net.gateway(), refusing, EACH)?;
        watch_rudely(&agent).with_context(|| format!("round {round}"))?;
    }
    let upstream = refusing.to_string();
    let ours = |line: &Value| line["kind"] == "verdict" && line["upstream"] == upstream.as_str();
    let expected = (ROUNDS * EACH) as usize;
    for watcher in [&mut other, &mut agent] {
        let deadline = Instant::now() + Duration::from_secs(10);
        let count = |watcher: &Agent| watcher.seen().iter().filter(|line| ours(&line.json)).count();
        while count(watcher) < expected && Instant::now() < deadline {
            watcher.read_for(Duration::from_millis(50))?;
        }
        ensure!(count(watcher) == expected, "{} of {expected} lines", count(watcher));
        let slow = |line: &&Value| line["why"] == "the reader was too slow";
        let left_out: Vec<_> = watcher.seen().iter().map(|line| &line.json).filter(slow).collect();
        ensure!(left_out.is_empty(), "{left_out:?}");
    }
    ensure!(agent.scrape()?.sum("rstrace_events_dropped_total", &[]) == 0.0, "{}", agent.stderr());
    Ok(())
}
