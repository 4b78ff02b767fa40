//! One virtual machine: boots it, keeps its console, ends it at the deadline.
//!
//! It runs emulated (TCG), which works wherever qemu does, inside other virtual machines included;
//! a boot takes a few seconds. It has no disk and no network: all traffic is its own loopback's.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::console::Report;
use crate::qemu;

/// What to boot and for how long.
#[derive(Debug)]
pub struct Boot<'a> {
    pub kernel: &'a Path,
    pub initrd: &'a Path,
    /// Which scenarios `vm_init` is to run.
    pub plan: &'a str,
    /// What is added to the kernel's command line.
    pub parameters: &'a str,
    pub log: PathBuf,
    pub deadline: Duration,
}

/// Boots the machine and follows it to its end.
///
/// # Errors
/// When qemu cannot be run or the log not be written.
pub fn run(boot: &Boot<'_>) -> Result<Report> {
    let end = Instant::now() + boot.deadline;
    let mut log = File::create(&boot.log).with_context(|| format!("create {}", boot.log.display()))?;
    let mut machine = Machine::start(boot)?;
    let lines = lines(machine.0.stdout.take().context("qemu has no output")?);
    let mut report = Report::default();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(log, "{line}").with_context(|| format!("write {}", boot.log.display()))?;
                if let Some(result) = report.read(&line) {
                    eprintln!("{result}");
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                report.gave_up();
                return Ok(report);
            }
            Err(RecvTimeoutError::Disconnected) => {
                report.ended(machine.0.wait().context("wait for qemu")?);
                return Ok(report);
            }
        }
    }
}

/// A running qemu, which ends with its owner.
struct Machine(Child);

impl Machine {
    fn start(boot: &Boot<'_>) -> Result<Self> {
        let mut qemu = qemu::command();
        // Both processors in one thread: with two, one may execute what the other has just patched out (a kernel
        // died of an int3 in `sched_clock_cpu` that was no longer there).
        qemu.args(["-accel", "tcg,thread=single", "-cpu", "max", "-m", "1024", "-smp", "2"]);
        qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(boot.initrd);
        // Only the worst of the kernel's messages: others would cut the lines of results in two.
        // A variable that the kernel does not know goes to /init's environment, what follows the two
        // dashes to its arguments.
        let program = "RSTRACE_BIN=/bin/rstrace";
        let Boot { parameters, plan, .. } = boot;
        let line = format!("console=ttyS0 loglevel=3 panic=-1 {parameters} {program} -- {plan}");
        qemu.arg("-append").arg(line);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self(qemu.spawn().context("run qemu-system-x86_64")?))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only for a machine that has already been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The console's lines, read by a thread so that waiting for them can have a deadline.
fn lines(console: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
