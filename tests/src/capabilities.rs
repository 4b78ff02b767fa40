//! Starts `rstrace` as root with these capabilities and no others, and reads which ones its threads have.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::agent::binary;

/// What `README.md` asks for.
pub const THREE: &[&str] = &["bpf", "perfmon", "sys_ptrace"];

/// A mask as /proc/PID/status writes it: the bits of [`THREE`], of <linux/capability.h>.
pub const THREE_BITS: u64 = 1 << 39 | 1 << 38 | 1 << 19;

/// `rstrace`, started by root with these capabilities alone: setpriv(1) takes all others out of the bounding set, so
/// that the program begins with what is left of it.
///
/// # Errors
/// When there is no program to test.
pub fn rstrace_with(capabilities: &[&str]) -> Result<Command> {
    let kept: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all{kept}")).arg("--inh-caps=-all").arg("--ambient-caps=-all");
    command.arg(binary()?);
    Ok(command)
}

/// What one thread may do.
#[derive(Debug, Clone)]
pub struct Thread {
    pub name: String,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
    pub bounding: u64,
    pub no_new_privs: bool,
}

/// Every thread of a process, from `/proc/PID/task/TID/status`; the first is the process's own.
///
/// # Errors
/// When the process has ended.
pub fn threads(pid: u32) -> Result<Vec<Thread>> {
    let folder = format!("/proc/{pid}/task");
    let mut tids = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
        tids.push(entry?.file_name().to_string_lossy().parse::<u32>()?);
    }
    tids.sort_unstable();
    let threads: Vec<Thread> =
        tids.iter().map(|tid| thread(&format!("{folder}/{tid}/status"))).collect::<Result<_>>()?;
    ensure!(!threads.is_empty(), "{folder} is empty");
    Ok(threads)
}

fn thread(path: &str) -> Result<Thread> {
    let status = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let field = |key: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        found.with_context(|| format!("{path} has no {key}"))
    };
    let mask = |key: &str| Ok::<_, anyhow::Error>(u64::from_str_radix(field(key)?, 16)?);
    Ok(Thread {
        name: field("Name")?.to_owned(),
        effective: mask("CapEff")?,
        permitted: mask("CapPrm")?,
        inheritable: mask("CapInh")?,
        ambient: mask("CapAmb")?,
        bounding: mask("CapBnd")?,
        no_new_privs: field("NoNewPrivs")? == "1",
    })
}
