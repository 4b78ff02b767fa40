//! `rstrace top`: on a terminal, and in a pipe.

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::{poll, run_within};
use rstrace_tests::terminal::Terminal;
use serde_json::Value;

/// For whatever the screen does by itself; it redraws four times a second.
const SOON: Duration = Duration::from_secs(10);

/// An agent, and an upstream in another namespace to which three connections were refused.
struct Outage {
    agent: Agent,
    net: Net,
    upstream: SocketAddr,
}

impl Outage {
    fn begin() -> Result<Self> {
        let net = Net::create(Link::Loopback, Family::V4)?;
        let upstream = net.free_upstream();
        let mut agent = Agent::start(false)?;
        dial_refused(net.gateway(), upstream, 3)?;
        let refused = Cell::new(0);
        agent.wait_for("three refusals", SOON, |line| {
            refused.set(refused.get() + usize::from(line["upstream"] == upstream.to_string()));
            refused.get() == 3
        })?;
        Ok(Self { agent, net, upstream })
    }

    /// `top` of this upstream alone, whatever else this machine does.
    fn top(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(["top", "--upstream", &self.upstream.to_string(), "--socket"]).arg(self.agent.socket());
        command.args(arguments);
        Ok(command)
    }

    fn on_screen(&self, rows: u16, columns: u16) -> Result<Terminal> {
        Terminal::start(self.top(&[])?, rows, columns)
    }

    /// The line of the upstream.
    fn row(&self, text: &str) -> Option<String> {
        let name = self.upstream.to_string();
        text.lines().find(|line| line.starts_with(&name)).map(str::to_owned)
    }

    fn has_row(&self, lost: &str) -> impl Fn(&str) -> bool {
        move |text| self.row(text).is_some_and(|row| row.split_whitespace().any(|word| word == lost))
    }
}

#[test]
fn the_time_before_and_the_present_are_on_the_screen() -> Result<()> {
    let outage = Outage::begin()?;
    let mut terminal = outage.on_screen(24, 80)?;
    // A terminal gets a frame in pieces.
    let words = ["3 lost", "live", "no_listener", "nothing listens"];
    let drawn = |text: &str| outage.has_row("3")(text) && words.iter().all(|word| text.contains(word));
    terminal.wait_for("the losses before", SOON, drawn)?;
    ensure!(terminal.is_taken() == (true, true), "no full screen");
    dial_refused(outage.net.gateway(), outage.upstream, 2)?;
    terminal.wait_for("new losses", SOON, outage.has_row("5"))?;

    terminal.type_keys("\r")?;
    let text = terminal.wait_for("the evidence", SOON, |text| text.contains("  - "))?;
    ensure!(text.contains("5 x no_listener by upstream"), "{text}");
    terminal.type_keys("q?")?;
    terminal.wait_for("help", SOON, |text| text.contains("COLUMNS"))?;
    terminal.type_keys("q ")?;
    terminal.wait_for("a pause", SOON, |text| text.contains("PAUSED"))?;
    terminal.type_keys(" /by=firewall\r")?;
    terminal
        .wait_for("an empty table", SOON, |text| text.contains("Nothing that the filter lets through"))?;
    terminal.type_keys("/\u{15}cause=no_listener listens\r")?;
    terminal.wait_for("the row again", SOON, outage.has_row("5"))?;
    terminal.type_keys("/\u{15}cause=luck\r")?;
    terminal.wait_for("what is wrong", SOON, |text| text.contains("luck"))?;
    terminal.type_keys("\u{3}")?;
    gives_back(&mut terminal, Some(0))
}

#[test]
fn every_end_gives_the_terminal_back() -> Result<()> {
    let outage = Outage::begin()?;
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        let mut terminal = outage.on_screen(24, 80)?;
        terminal.wait_for("the row", SOON, outage.has_row("3"))?;
        terminal.signal(signal);
        gives_back(&mut terminal, Some(0)).with_context(|| format!("signal {signal}"))?;
    }
    let mut terminal = outage.on_screen(24, 80)?;
    terminal.wait_for("the row", SOON, outage.has_row("3"))?;
    terminal.type_keys("q")?;
    gives_back(&mut terminal, Some(0))
}

#[test]
fn a_terminal_that_takes_nothing_keeps_nobody_from_ending_it() -> Result<()> {
    let outage = Outage::begin()?;
    let mut terminal = outage.on_screen(24, 80)?;
    terminal.wait_for("the row", SOON, outage.has_row("3"))?;
    terminal.stall()?;
    terminal.type_keys("?")?;
    poll("a frame that nobody takes", SOON, || writes_to(terminal.pid(), "0x1").then_some(()))?;
    terminal.signal(libc::SIGTERM);
    let status = terminal.wait(SOON)?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(terminal.is_cooked()?, "still raw");
    Ok(())
}

#[test]
fn a_stopped_one_gives_the_terminal_back_and_takes_it_again() -> Result<()> {
    let outage = Outage::begin()?;
    let mut terminal = outage.on_screen(24, 80)?;
    for by_key in [true, false] {
        terminal.wait_for("the row", SOON, outage.has_row("3"))?;
        if by_key {
            terminal.type_keys("\u{1a}")?;
        } else {
            terminal.signal(libc::SIGTSTP);
        }
        poll("a stopped process", SOON, || is_stopped(terminal.pid()).then_some(()))?;
        poll("the terminal of the shell", SOON, || (terminal.is_taken() == (false, false)).then_some(()))?;
        ensure!(terminal.is_cooked()?, "still raw");
        terminal.signal(libc::SIGCONT);
        poll("the full screen again", SOON, || (terminal.is_taken() == (true, true)).then_some(()))?;
    }
    // All of it is drawn anew when that is asked for.
    terminal.type_keys("\u{c}")?;
    terminal.wait_for("the row", SOON, outage.has_row("3"))?;
    terminal.type_keys("q")?;
    gives_back(&mut terminal, Some(0))
}

#[test]
fn an_agent_that_ends_is_said_and_found_again() -> Result<()> {
    let mut outage = Outage::begin()?;
    let mut terminal = outage.on_screen(24, 80)?;
    terminal.wait_for("the row", SOON, outage.has_row("3"))?;
    let agent = outage.agent.killed_and_started_again()?;
    terminal.wait_for("that it had gone, and is there again", SOON, |text| text.contains("live"))?;
    outage.agent = agent;
    dial_refused(outage.net.gateway(), outage.upstream, 1)?;
    terminal.wait_for("what was counted before, and more", SOON, outage.has_row("4"))?;
    outage.agent.signal(libc::SIGTERM);
    terminal.wait_for("that it has gone", SOON, |text| text.contains("NO AGENT"))?;
    terminal.type_keys("q")?;
    gives_back(&mut terminal, Some(0))
}

#[test]
fn without_colours_nothing_is_coloured_and_little_room_suffices() -> Result<()> {
    let outage = Outage::begin()?;
    let mut command = outage.top(&[])?;
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::start(command, 10, 40)?;
    terminal.wait_for("the row", SOON, outage.has_row("3"))?;
    terminal.type_keys("\r")?;
    terminal.wait_for("the evidence", SOON, |text| text.contains("no_listener by upstream"))?;
    let drawn = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    for colour in ["\u{1b}[31", "\u{1b}[33", "\u{1b}[32", "\u{1b}[38", "\u{1b}[48;5"] {
        ensure!(!drawn.contains(colour), "{drawn:?}");
    }
    terminal.type_keys("qq")?;
    gives_back(&mut terminal, Some(0))
}

#[test]
fn in_a_pipe_it_prints_the_table_once() -> Result<()> {
    let outage = Outage::begin()?;
    let ended = run_within(&mut outage.top(&["--json"])?, SOON)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let row: Value = serde_json::from_str(&ended.stdout).with_context(|| ended.stdout.clone())?;
    ensure!(row["upstream"] == outage.upstream.to_string() && row["lost"] == 3, "{row}");
    ensure!(row["causes"][0]["cause"] == "no_listener" && row["by"] == "upstream", "{row}");
    let ended = run_within(&mut outage.top(&["--once"])?, SOON)?;
    ensure!(ended.code == Some(0) && outage.has_row("3")(&ended.stdout), "{ended:?}");
    ensure!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    let ended = run_within(&mut outage.top(&[])?, SOON)?;
    ensure!(ended.code == Some(2) && ended.stderr.contains("is no terminal"), "{ended:?}");
    ensure!(ended.stderr.lines().count() == 1 && ended.stdout.is_empty(), "{ended:?}");
    Ok(())
}

#[test]
fn without_an_agent_it_says_how_to_start_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binary()?);
    command.args(["top", "--socket"]).arg(folder.path().join("nobody.sock"));
    let mut terminal = Terminal::start(command, 24, 80)?;
    let text = terminal.wait_for("an error", SOON, |text| text.contains("rstrace agent"))?;
    ensure!(text.contains("no agent listens"), "{text}");
    gives_back(&mut terminal, Some(1))
}

/// It has ended, and the terminal is the shell's again.
fn gives_back(terminal: &mut Terminal, code: Option<i32>) -> Result<()> {
    let status = terminal.wait(SOON).with_context(|| terminal.text())?;
    ensure!(status.code() == code, "{status}");
    poll("the terminal of the shell", SOON, || (terminal.is_taken() == (false, false)).then_some(()))
        .with_context(|| format!("{:?}", terminal.is_taken()))?;
    ensure!(terminal.is_cooked()?, "still raw");
    Ok(())
}

/// Whether its first thread waits in write(2) to this descriptor.
fn writes_to(pid: u32, descriptor: &str) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} {descriptor} ", libc::SYS_write))
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}
