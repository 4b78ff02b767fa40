//! `rstrace watch`: its lines for people and for programs, its limits and filters, its sources.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::{Ended, Guarded, Lines, run_within};
use serde_json::Value;

/// A namespace, and an address in it that refuses.
fn refusing() -> Result<(Net, SocketAddr)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let address = net.free_upstream();
    Ok((net, address))
}

/// Runs a command while connections to `address` are refused again and again.
fn run_among_refusals(command: &mut Command, net: &Net, address: SocketAddr) -> Result<Ended> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = dial_refused(net.gateway(), address, 1);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // The child must be this thread's, which outlives it.
        let ended = run_within(command, Duration::from_secs(30));
        over.store(true, Ordering::Relaxed);
        ended
    })
}

/// `watch` that loads the programs itself, whatever agent runs on this machine.
fn watch(folder: &tempfile::TempDir, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("watch").arg("--socket").arg(folder.path().join("nobody.sock")).args(arguments);
    Ok(command)
}

#[test]
fn count_ends_after_so_many_verdicts() -> Result<()> {
    let (net, address) = refusing()?;
    let folder = tempfile::tempdir()?;
    let mut command = watch(&folder, &["--json", "--count", "2", "--upstream", &address.to_string()])?;
    let ended = run_among_refusals(&mut command, &net, address)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let lines: Vec<Value> = ended
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context(ended.stdout.clone())?;
    ensure!(lines.first().is_some_and(|line| line["kind"] == "ready"), "the first line is not ready");
    let verdicts = lines.iter().filter(|line| line["kind"] == "verdict");
    ensure!(verdicts.clone().count() == 2, "{}", ended.stdout);
    for verdict in verdicts {
        ensure!(verdict["cause"] == "no_listener" && verdict["upstream"] == address.to_string(), "{verdict}");
    }
    Ok(())
}

#[test]
fn an_elapsed_duration_is_no_failure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = Instant::now();
    let ended = run_within(&mut watch(&folder, &["--duration", "1s"])?, Duration::from_secs(20))?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(start.elapsed() >= Duration::from_secs(1), "it ended after {:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_line_for_people_names_upstream_and_cause() -> Result<()> {
    let (net, address) = refusing()?;
    let folder = tempfile::tempdir()?;
    let mut command = watch(&folder, &["--count", "1", "--upstream", &address.to_string()])?;
    let ended = run_among_refusals(&mut command, &net, address)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let line =
        ended.stdout.lines().find(|line| line.contains("no_listener")).context(ended.stdout.clone())?;
    for part in [&address.to_string(), "upstream", "connect_failed", "nothing listens"] {
        ensure!(line.contains(part), "no {part:?} in {line:?}");
    }
    ensure!(!ended.stdout.contains('\u{1b}'), "colours in a pipe: {:?}", ended.stdout);
    Ok(())
}

#[test]
fn a_closed_pipe_is_a_quiet_end() -> Result<()> {
    let (net, address) = refusing()?;
    let folder = tempfile::tempdir()?;
    for format in ["--json", "--all"] {
        let mut command = Command::new("sh");
        let script = "(\"$0\" watch --socket \"$1\" \"$2\"; echo \"ended with $?\" >&2) | head -n 1";
        command.args(["-c", script]).arg(binary()?).arg(folder.path().join("nobody.sock")).arg(format);
        let ended = run_among_refusals(&mut command, &net, address)?;
        ensure!(ended.stdout.lines().count() == 1, "{ended:?}");
        ensure!(ended.stderr.trim_end().ends_with("ended with 0"), "{ended:?}");
        ensure!(!ended.stderr.to_lowercase().contains("pipe"), "{ended:?}");
    }
    Ok(())
}

#[test]
fn filters_hide_what_was_not_asked_for() -> Result<()> {
    let (net, address) = refusing()?;
    let here = net.gateway().path().to_string_lossy().into_owned();
    let upstream = address.to_string();
    let network = format!("{}/32", address.ip());
    let shown: [&[&str]; 6] = [
        &["--upstream", &upstream],
        &["--upstream", &network, "--netns", &here],
        &["--netns", &here],
        &["--netns", &net.gateway().inode().to_string()],
        &["--by", "upstream", "--netns", &here],
        &["--cause", "no_listener", "--netns", &here],
    ];
    let elsewhere = format!("/proc/{}/ns/net", std::process::id());
    let hidden: [&[&str]; 4] = [
        &["--upstream", "192.0.2.1"],
        &["--netns", &elsewhere],
        &["--by", "client"],
        &["--cause", "process_crashed"],
    ];
    let agent = Agent::start(false)?;
    let socket = agent.socket().to_string_lossy().into_owned();
    let follow = |filter: &[&str]| Agent::watch(&[&["--socket", &socket], filter].concat());
    let mut shown: Vec<_> = shown.iter().map(|filter| follow(filter)).collect::<Result<_>>()?;
    let mut hidden: Vec<_> = hidden.iter().map(|filter| follow(filter)).collect::<Result<_>>()?;
    dial_refused(net.gateway(), address, 1)?;
    let ours = |line: &Value| line["upstream"] == upstream.as_str();
    for watch in &mut shown {
        watch.wait_for(&upstream, Duration::from_secs(20), ours)?;
    }
    // All of them read the same stream, so what was not shown by now was hidden.
    for watch in &mut hidden {
        watch.read_for(Duration::from_millis(100))?;
        ensure!(!watch.seen().iter().any(|line| ours(&line.json)), "{:?}", watch.seen());
    }
    Ok(())
}

#[test]
fn it_follows_a_running_agent_without_any_capability() -> Result<()> {
    let (net, address) = refusing()?;
    let mut agent = Agent::start(false)?;
    let mut command = Command::new("setpriv");
    // A root without capabilities may open root's socket, and can load nothing itself.
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(binary()?);
    command.args(["watch", "--json", "--socket"]).arg(agent.socket()).stdout(std::process::Stdio::piped());
    let mut watch = Guarded::spawn(&mut command)?;
    let lines = Lines::of(watch.child().stdout.take().context("watch's stdout is piped")?);
    let deadline = Instant::now() + Duration::from_secs(10);
    let first = lines.next(deadline)?.context("no first line")?;
    ensure!(serde_json::from_str::<Value>(&first.text)?["kind"] == "ready", "{first:?}");
    dial_refused(net.gateway(), address, 1)?;
    let upstream = address.to_string();
    let wanted = |line: &Value| line["upstream"] == upstream.as_str();
    let shown = agent.wait_for(&upstream, Duration::from_secs(20), wanted)?.json;
    let followed = loop {
        let line = lines.next(deadline)?.context("watch did not show the verdict")?;
        let line: Value = serde_json::from_str(&line.text)?;
        if wanted(&line) {
            break line;
        }
    };
    ensure!(followed == shown, "the agent wrote {shown}, its follower {followed}");
    Ok(())
}
