//! The systemd unit: that systemd can read it, how much it leaves open, and that the agent works with what it leaves.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary, free_port};
use rstrace_tests::capabilities::{THREE, mask, threads};
use rstrace_tests::netns::{Family, Link, Net, require_root};
use rstrace_tests::process::{Gathered, Guarded, run_within};
use rstrace_tests::unit::{self, Unit};

/// What `systemd-analyze security` gives at most, times ten. Most of the rest is what an agent is for: to see other
/// processes, their network and their users, and to load programs.
const EXPOSURE: &str = "24";
const ANSWER: Duration = Duration::from_secs(60);

#[test]
fn systemd_understands_the_unit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("rstrace.service");
    std::fs::write(&copy, Unit::shipped()?.with_program(&binary()?.canonicalize()?)?)?;
    let mut command = Command::new("systemd-analyze");
    let verified = run_within(command.args(["--man=no", "verify"]).arg(&copy), ANSWER)?;
    ensure!(verified.code == Some(0) && verified.stderr.is_empty(), "{verified:?}");
    Ok(())
}

#[test]
fn the_unit_leaves_little_open() -> Result<()> {
    let mut command = Command::new("systemd-analyze");
    command.args(["--no-pager", "security", "--offline=true", &format!("--threshold={EXPOSURE}")]);
    let measured = run_within(command.arg(unit::path()), ANSWER)?;
    ensure!(measured.code == Some(0), "{measured:?}");
    let unit = Unit::shipped()?;
    for (key, value) in [
        ("CapabilityBoundingSet", "CAP_BPF CAP_PERFMON CAP_SYS_PTRACE"),
        ("ProtectSystem", "strict"),
        ("RuntimeDirectory", "rstrace"),
        ("Type", "notify"),
    ] {
        ensure!(unit.one(key)? == value, "{key}={}", unit.one(key)?);
    }
    Ok(())
}

/// With the unit's words, capabilities and system calls it does its work, and says so to the service manager.
#[test]
fn it_works_with_what_the_unit_leaves_and_tells_the_manager() -> Result<()> {
    require_root()?;
    let unit = Unit::shipped()?;
    ensure!(unit.one("WatchdogSec")?.parse::<u32>()? >= 20, "a loop is taken for stuck after 10 s");
    let folder = tempfile::tempdir()?;
    let manager = folder.path().join("notify");
    let notified = UnixDatagram::bind(&manager)?;
    notified.set_read_timeout(Some(ANSWER))?;
    let listen = free_port()?;
    let socket = folder.path().join("s.sock");
    let mut command = unit.command()?;
    command.env("NOTIFY_SOCKET", &manager).env("WATCHDOG_USEC", "100000");
    command.env("RSTRACE_LISTEN", listen.to_string()).env("RSTRACE_SOCKET", &socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut agent = Guarded::spawn(&mut command)?;
    let stderr = Gathered::of(agent.child().stderr.take().context("it is piped")?);
    let said = || -> Result<String> {
        let mut message = [0; 4096];
        let length = notified.recv(&mut message).with_context(|| stderr.text())?;
        Ok(String::from_utf8_lossy(&message[..length]).into_owned())
    };

    let first = said()?;
    let serving = format!("READY=1\nSTATUS=serving /metrics on {listen}, verdicts on {}\n", socket.display());
    ensure!(first == serving, "{first:?}");
    // Whoever is told that it is ready finds it so.
    ensure!(rstrace_tests::scrape::get(listen, "/readyz")?.0 == 200);
    for thread in threads(agent.pid())? {
        ensure!(thread.permitted == mask(THREE) && thread.no_new_privs, "{thread:?}");
    }
    for _ in 0..3 {
        let beat = said()?;
        ensure!(beat == "WATCHDOG=1\n", "{beat:?}");
    }

    let net = Net::create(Link::Loopback, Family::V4)?;
    let upstream = net.free_upstream();
    let mut watch = Agent::watch(&["--socket", &socket.to_string_lossy()])?;
    watch.sees_a_refusal(net.gateway(), upstream, Duration::from_secs(10))?;

    agent.signal(libc::SIGTERM);
    let mut last = said()?;
    while last == "WATCHDOG=1\n" {
        last = said()?;
    }
    ensure!(last == "STOPPING=1\n", "{last:?}");
    let status = agent.wait(ANSWER)?;
    ensure!(status.success(), "{status}: {}", stderr.text());
    Ok(())
}
