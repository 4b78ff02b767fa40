//! `rstrace report`: the incident on one page, from what a running agent remembers.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Namespace, Net};
use rstrace_tests::process::{Ended, run_within};
use rstrace_tests::server::Server;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
/// Connects that are refused after the kill.
const REFUSED: u32 = 3;

fn report(socket: &Path, arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.arg("report").arg("--socket").arg(socket).args(arguments).env("NO_COLOR", "1").env("TZ", "UTC");
    run_within(&mut command, LIMIT)
}

/// The request stays unanswered for as long as the connection is held.
fn request(net: &Namespace, address: SocketAddr, path: &str) -> Result<TcpStream> {
    net.enter(|| {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        Ok(stream)
    })?
}

/// When `ps` would say that a process was started, seconds of the wall clock.
fn started(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no name in stat")?.1;
    // Field 22 of proc(5), counted from the state, which is the third.
    let ticks: f64 = fields.split_whitespace().nth(19).context("stat is short")?.parse()?;
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let up: f64 = uptime.split_whitespace().next().context("no uptime")?.parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    Ok(now - up + ticks / 100.0)
}

#[test]
fn a_killed_upstream_is_on_top_with_its_culprit_and_what_came_after() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let (address, other) = (net.free_upstream(), net.free_upstream());
    let mut agent = Agent::start(false)?;
    let mut server = Server::start(net.upstream(), address, &[], None)?;
    let (pid, start) = (server.pid(), started(server.pid())?);
    let held: Vec<_> = (0..5).map(|_| request(net.gateway(), address, "/hang")).collect::<Result<_>>()?;
    for _ in &held {
        server.wait_for("/hang")?;
    }
    server.killed_by_a_shell()?;
    dial_refused(net.gateway(), address, REFUSED)?;
    dial_refused(net.gateway(), other, 1)?;
    for upstream in [address, other] {
        let refused =
            |line: &Value| line["cause"] == "no_listener" && line["upstream"] == upstream.to_string();
        agent.wait_for("the refused connect", LIMIT, refused)?;
    }
    let killed = |line: &Value| line["cause"] == "process_killed" && line["upstream"] == address.to_string();
    agent.wait_for("the kill", LIMIT, killed)?;

    let netns = net.gateway().inode().to_string();
    let ended = report(&agent.socket(), &["--json", "--since", "5m", "--netns", &netns])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let json: Value = serde_json::from_str(&ended.stdout).context(ended.stdout.clone())?;
    ensure!(json["kind"] == "report" && json["schema"] == 1, "{json}");
    let top = &json["groups"][0];
    ensure!(top["upstream"] == address.to_string() && top["cause"] == "process_killed", "{json}");
    ensure!(top["losses"] == 5 && top["impacts"]["request_lost"] == 5, "{json}");
    let culprit = &top["culprits"][0];
    ensure!(culprit["pids"] == serde_json::json!([pid]) && culprit["killed_by"] == "sh", "{json}");
    let told = culprit["started"].as_str().context("no start time")?;
    let told = seconds(told)?;
    ensure!((told - start).abs() < 0.2, "started {told}, and /proc says {start}");
    ensure!(json["programs"][0]["comm"] == "fault_server", "{json}");
    let finding = json["findings"][0].as_str().unwrap_or_default();
    ensure!(finding.contains(&format!("{address}: fault_server[{pid}] killed by sh (SIGKILL)")), "{json}");
    let stale = json["stale"].as_array().context("no stale upstreams")?;
    ensure!(stale.iter().any(|stale| stale["upstream"] == other.to_string()), "{json}");
    let gone = stale.iter().find(|stale| stale["upstream"] == address.to_string()).context("not stale")?;
    ensure!(gone["listener"]["listening"] == false && gone["listener"]["ceased"].is_string(), "{gone}");
    ensure!(gone["listener"]["process"]["pid"] == pid, "{gone}");

    let page = report(&agent.socket(), &["--netns", &netns])?;
    ensure!(page.code == Some(0) && !page.stdout.contains('\u{1b}'), "{page:?}");
    for part in ["What was lost", "process_killed", "Nothing listens", "What to do next", "all times UTC"] {
        ensure!(page.stdout.contains(part), "no {part:?} in {}", page.stdout);
    }
    ensure!(page.stdout.lines().all(|line| line.chars().count() <= 80), "{}", page.stdout);
    Ok(())
}

/// Of `2026-11-20T12:03:05.42Z`.
fn seconds(time: &str) -> Result<f64> {
    let mut date = Command::new("date");
    let ended = run_within(date.args(["-d", time, "+%s.%N"]), LIMIT)?;
    Ok(ended.stdout.trim().parse()?)
}

#[test]
fn where_nothing_was_lost_it_says_since_when() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let agent = Agent::start(false)?;
    let netns = net.gateway().inode().to_string();
    let ended = report(&agent.socket(), &["--netns", &netns])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(ended.stdout.contains("Nothing of what was asked for was lost since "), "{ended:?}");
    Ok(())
}

#[test]
fn without_an_agent_it_says_so_in_one_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = report(&folder.path().join("nobody.sock"), &["--json"])?;
    ensure!(ended.code == Some(1) && ended.stdout.is_empty(), "{ended:?}");
    ensure!(ended.stderr.lines().count() == 1, "{ended:?}");
    ensure!(
        ended.stderr.contains("no agent listens on") && ended.stderr.contains("rstrace agent"),
        "{ended:?}"
    );
    let ended = report(&folder.path().join("nobody.sock"), &["--since", "yesterday"])?;
    ensure!(ended.code == Some(2), "{ended:?}");
    Ok(())
}
