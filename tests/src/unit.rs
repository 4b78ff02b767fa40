//! `deploy/rstrace.service`: its settings, and the agent started with those of them that do not take systemd itself.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::capabilities::{BPF, PERFMON, SYS_PTRACE, rstrace_with};
use crate::seccomp::Filter;

/// The settings of a unit, in their order.
#[derive(Debug)]
pub struct Unit {
    text: String,
}

impl Unit {
    /// The one that is shipped.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn shipped() -> Result<Self> {
        let path = path();
        Ok(Self { text: std::fs::read_to_string(&path).with_context(|| path.display().to_string())? })
    }

    /// All values of a setting.
    pub fn all(&self, key: &str) -> Vec<String> {
        let values = self.text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.map(str::to_owned).collect()
    }

    /// The one value of a setting.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn one(&self, key: &str) -> Result<String> {
        match self.all(key).as_slice() {
            [value] => Ok(value.clone()),
            values => bail!("{key}= is there {} times", values.len()),
        }
    }

    /// The same unit with the program at this path, for checks that ask whether it exists.
    ///
    /// # Errors
    /// When its command is not an absolute path.
    pub fn with_program(&self, program: &Path) -> Result<String> {
        let command = self.one("ExecStart")?;
        let installed = command.split(' ').next().filter(|path| path.starts_with('/'));
        let installed = installed.with_context(|| format!("{command} begins with no path"))?;
        Ok(self.text.replace(&format!("ExecStart={installed}"), &format!("ExecStart={}", program.display())))
    }

    /// rstrace with the unit's words, capabilities and system calls. What no systemd is there to do is left out: its
    /// view of the file system, its cgroup, its address families.
    ///
    /// # Errors
    /// When the unit asks for a capability that no test knows.
    pub fn command(&self) -> Result<Command> {
        let mut held = Vec::new();
        for name in self.one("CapabilityBoundingSet")?.split_whitespace() {
            held.push(match name {
                "CAP_BPF" => BPF,
                "CAP_PERFMON" => PERFMON,
                "CAP_SYS_PTRACE" => SYS_PTRACE,
                other => bail!("{other} is none of the three"),
            });
        }
        ensure!(self.one("NoNewPrivileges")? == "yes");
        let filter = Filter::of_unit(&self.all("SystemCallFilter"))?;
        let mut command = rstrace_with(&held)?;
        command.args(self.one("ExecStart")?.split(' ').skip(1));
        // SAFETY: between fork and exec this calls prctl(2) alone, which is async-signal-safe.
        unsafe { command.pre_exec(move || filter.apply()) };
        Ok(command)
    }
}

/// Where it is.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rstrace.service")
}
