//! Starts `rstrace` as root with these capabilities and no others, and reads which ones its threads have.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::agent::binary;

// Numbers of <linux/capability.h>.
pub const SETPCAP: u32 = 8;
pub const NET_BIND_SERVICE: u32 = 10;
pub const NET_ADMIN: u32 = 12;
pub const SYS_PTRACE: u32 = 19;
pub const SYS_ADMIN: u32 = 21;
pub const PERFMON: u32 = 38;
pub const BPF: u32 = 39;

/// What `README.md` asks for.
pub const THREE: &[u32] = &[BPF, PERFMON, SYS_PTRACE];

/// These as /proc/PID/status and the kernel have them.
pub fn mask(capabilities: &[u32]) -> u64 {
    capabilities.iter().fold(0, |mask, number| mask | 1 << number)
}

/// `rstrace`, started by root with these capabilities alone: all others are taken out of the bounding set, so that the
/// program begins with what is left of it.
///
/// # Errors
/// When there is no program to test.
pub fn rstrace_with(capabilities: &[u32]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    bound(&mut command, capabilities);
    Ok(command)
}

/// Lets a command that root starts have these capabilities alone.
pub fn bound(command: &mut Command, capabilities: &[u32]) {
    let kept = mask(capabilities);
    // SAFETY: between fork and exec this calls prctl(2) alone, which is async-signal-safe, and reads errno.
    unsafe { command.pre_exec(move || bound_by(kept)) };
}

/// Takes all others out of the bounding set. It allocates nothing, so that it may be called between fork and exec.
///
/// # Errors
/// When the kernel refuses.
pub fn bound_by(kept: u64) -> io::Result<()> {
    for number in (0..u64::BITS).filter(|number| kept & 1 << number == 0) {
        // SAFETY: PR_CAPBSET_DROP takes a number and no pointer.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } == 0 {
            continue;
        }
        let error = io::Error::last_os_error();
        // Numbers beyond the last one of this kernel.
        return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
    }
    Ok(())
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
    // One that ends meanwhile has none any more.
    let lives = |path: &String| Path::new(path).exists();
    let of_each = tids.iter().map(|tid| format!("{folder}/{tid}/status"));
    let of_each =
        of_each.map(|path| (thread(&path), path)).filter(|(read, path)| read.is_ok() || lives(path));
    let threads: Vec<Thread> = of_each.map(|(read, _)| read).collect::<Result<_>>()?;
    ensure!(!threads.is_empty(), "{folder} is empty");
    Ok(threads)
}

fn thread(path: &str) -> Result<Thread> {
    let status = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let field = |key: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        found.with_context(|| format!("{path} has no {key}"))
    };
    let set = |key: &str| Ok::<_, anyhow::Error>(u64::from_str_radix(field(key)?, 16)?);
    Ok(Thread {
        name: field("Name")?.to_owned(),
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        inheritable: set("CapInh")?,
        ambient: set("CapAmb")?,
        bounding: set("CapBnd")?,
        no_new_privs: field("NoNewPrivs")? == "1",
    })
}
