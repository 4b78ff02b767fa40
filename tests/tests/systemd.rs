//! The unit that is shipped, under a real systemd: that it is ready when it says so, has the rights that it names, and
//! comes back when it should.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::capabilities::{THREE, mask};
use rstrace_tests::container::static_binary;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;
use rstrace_tests::systemd::Machine;

const UNIT: &str = "rstrace.service";
const LIMIT: Duration = Duration::from_secs(60);

/// A machine with the unit and the program installed as docs/deploy.md says.
struct Stage {
    machine: Machine,
    _net: Net,
}

impl Stage {
    fn set() -> Result<Self> {
        let net = Net::create(Link::Loopback, Family::V4)?;
        let machine = Machine::boot(net.gateway())?;
        machine.install(&static_binary()?, "/usr/local/bin/rstrace")?;
        let unit = rstrace_tests::unit::path();
        machine.write("/etc/systemd/system/rstrace.service", &std::fs::read_to_string(unit)?)?;
        machine.done("systemctl", &["daemon-reload"])?;
        Ok(Self { machine, _net: net })
    }

    /// The agent by its number inside.
    fn pid(&self) -> Result<String> {
        let pid = self.machine.property(UNIT, "MainPID")?;
        ensure!(pid != "0", "it does not run");
        Ok(pid)
    }

    fn restarts(&self) -> Result<u32> {
        Ok(self.machine.property(UNIT, "NRestarts")?.parse()?)
    }

    /// Waits until it has been started that often again, and is ready.
    fn comes_back(&self, restarts: u32) -> Result<()> {
        poll(&format!("restart {restarts}"), LIMIT, || {
            let is_back = self.restarts().ok()? >= restarts;
            let active = self.machine.property(UNIT, "ActiveState").ok()?;
            (is_back && active == "active").then_some(())
        })?;
        self.machine.done("rstrace", &["doctor"]).map(drop)
    }
}

#[test]
fn it_is_ready_when_started_has_three_capabilities_and_sees_what_happens() -> Result<()> {
    let stage = Stage::set()?;
    let machine = &stage.machine;
    machine.done("systemctl", &["start", UNIT])?;
    machine.done("curl", &["-fsS", "http://127.0.0.1:19435/readyz"])?;
    let outside = machine.done("cat", &["/sys/fs/cgroup/system.slice/rstrace.service/cgroup.procs"])?;
    ensure!(outside.trim() == stage.pid()?, "{outside}");
    let status = machine.done("cat", &[&format!("/proc/{}/status", stage.pid()?)])?;
    for (field, value) in
        [("CapEff", mask(THREE)), ("CapPrm", mask(THREE)), ("CapBnd", mask(THREE)), ("NoNewPrivs", 1)]
    {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        let found = u64::from_str_radix(line.with_context(|| field.to_owned())?, 16)?;
        ensure!(found == value, "{field} is {found:x}, not {value:x}");
    }
    machine.done("rstrace", &["demo"])?;
    let report = machine.done("rstrace", &["report", "--since", "5m"])?;
    ensure!(report.contains("demo-killer"), "{report}");
    machine.done("systemctl", &["stop", UNIT])?;
    ensure!(machine.property(UNIT, "Result")? == "success");
    Ok(())
}

#[test]
fn it_comes_back_when_it_is_killed_or_hangs() -> Result<()> {
    let stage = Stage::set()?;
    // As shipped it would take 30 s and some more.
    let hurry = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n";
    stage.machine.write("/etc/systemd/system/rstrace.service.d/hurry.conf", hurry)?;
    stage.machine.done("systemctl", &["daemon-reload"])?;
    stage.machine.done("systemctl", &["start", UNIT])?;
    stage.machine.done("kill", &["-KILL", &stage.pid()?])?;
    stage.comes_back(1)?;
    stage.machine.done("kill", &["-STOP", &stage.pid()?])?;
    stage.comes_back(2)?;
    Ok(())
}

#[test]
fn wrong_words_are_not_tried_again() -> Result<()> {
    let stage = Stage::set()?;
    stage.machine.write("/etc/default/rstrace", "RSTRACE_LISTEN=nowhere\n")?;
    let started = stage.machine.run("systemctl", &["start", UNIT])?;
    ensure!(started.code != Some(0), "{started:?}");
    ensure!(stage.machine.property(UNIT, "ActiveState")? == "failed");
    ensure!(stage.machine.property(UNIT, "ExecMainStatus")? == "2");
    ensure!(stage.restarts()? == 0);
    Ok(())
}

#[test]
fn the_journal_has_a_place_in_the_unit() -> Result<()> {
    let stage = Stage::set()?;
    let document = std::fs::read_to_string(rstrace_tests::systemd::workspace()?.join("docs/deploy.md"))?;
    let (_, rest) = document.split_once("```ini\n").context("no settings in docs/deploy.md")?;
    let (settings, _) = rest.split_once("```").context("they do not end")?;
    stage.machine.write("/etc/systemd/system/rstrace.service.d/override.conf", settings)?;
    stage.machine.done("systemctl", &["daemon-reload"])?;
    stage.machine.done("systemctl", &["start", UNIT])?;
    stage.machine.done("rstrace", &["demo"])?;
    let report = poll("verdicts in the journal", LIMIT, || {
        let report =
            stage.machine.run("rstrace", &["report", "--journal", "/var/lib/rstrace/journal"]).ok()?;
        report.stdout.contains("demo-killer").then_some(report.stdout)
    });
    report.map(drop)
}
