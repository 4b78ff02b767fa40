//! Where and of what a run was measured: without it, figures cannot be compared.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::agent::{Agent, binary};
use crate::scrape::Scrape;

/// The machine, the program, and the hooks that were attached.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub date: String,
    pub commit: String,
    pub rstrace: String,
    /// `hook: how`, as `rstrace_hook_attached` says it.
    pub hooks: Vec<String>,
    /// While it is 1, each run of a program is timed, which costs more than some programs do.
    pub bpf_stats_enabled: bool,
    /// Tasks that wanted to run at the start: on an idle machine below 1.
    pub load: String,
}

impl About {
    /// Of this machine and the program under test, which is started for it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn gather() -> Result<Self> {
        let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
        let agent = Agent::start_with(&[])?;
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: cpu().unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            date: said(Command::new("date").args(["-u", "+%F %R UTC"])),
            // The tree is a user's and this process is root's, which git would refuse to look at.
            commit: said(Command::new("git").args(["-c", "safe.directory=*", "-C", workspace]).args([
                "describe",
                "--always",
                "--dirty",
                "--exclude",
                "*",
            ])),
            rstrace: said(Command::new(binary()?).arg("--version")),
            hooks: hooks(&agent.scrape().context("scrape the agent")?),
            bpf_stats_enabled: read("/proc/sys/kernel/bpf_stats_enabled") == "1",
            load,
        })
    }

    /// The lines above the tables.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self { kernel, cpu, cores, date, commit, rstrace, hooks, bpf_stats_enabled, load } = self;
        let stats = if *bpf_stats_enabled { "on: it makes programs dearer" } else { "off" };
        format!(
            "{date}, commit {commit} ({rstrace}), Linux {kernel}, {cores} cores of {cpu}, load average {load} at the \
             start, `kernel.bpf_stats_enabled` {stats}. `rstrace_hook_attached`: {}.\n",
            hooks.join(", ")
        )
    }
}

/// The hooks of an agent, each with the way in which it is attached.
#[must_use]
pub fn hooks(scrape: &Scrape) -> Vec<String> {
    let hook = |sample: &crate::scrape::Sample| {
        format!(
            "{} {}",
            sample.label("hook").unwrap_or_default(),
            if sample.value == 1.0 { sample.label("how").unwrap_or_default() } else { "not attached" }
        )
    };
    scrape.matching("rstrace_hook_attached", &[]).map(hook).collect()
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    output.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
