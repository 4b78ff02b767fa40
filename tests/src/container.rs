//! A container as a runtime makes it, as far as the agent could notice: an own root with nothing in it but one program,
//! own mounts, an own view of the cgroups, some capabilities. Processes and network are the host's.
//!
//! No runtime is here that could start one: this does with the same system calls what the runtime would do. Its
//! seccomp, AppArmor and SELinux profiles are not part of it.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::capabilities::bound_by;
use crate::process::copy_program;

/// Where the image has the program.
const PROGRAM: &str = "/rstrace";

/// The statically linked program of the image: `RSTRACE_STATIC_BIN`, else the workspace's build of it.
///
/// # Errors
/// When there is none.
pub fn static_binary() -> Result<PathBuf> {
    let built = format!("../target/{}-unknown-linux-gnu/release/rstrace", std::env::consts::ARCH);
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join(built);
    let path = std::env::var_os("RSTRACE_STATIC_BIN").map_or_else(default, PathBuf::from);
    ensure!(
        path.exists(),
        "{} is missing: cargo xtask image, or name it in RSTRACE_STATIC_BIN",
        path.display()
    );
    Ok(path)
}

/// What is mounted over the container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A folder of the host.
    Host { path: String, at: String, read_only: bool },
    /// An empty one in memory.
    Empty { at: String },
}

/// What a container is given.
#[derive(Debug, Clone)]
pub struct Container {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Their numbers.
    pub capabilities: Vec<u32>,
    pub mounts: Vec<Mount>,
    pub read_only_root: bool,
    /// A cgroup of the second version that it begins in, whose path is then its root.
    pub cgroup: Option<PathBuf>,
}

/// A root folder on the host and how to start the program in it.
#[derive(Debug)]
pub struct Prepared {
    pub command: Command,
    pub root: TempDir,
}

/// One mount(2), its strings made before the fork.
#[derive(Debug)]
struct Step {
    source: CString,
    target: CString,
    kind: CString,
    flags: libc::c_ulong,
}

impl Step {
    fn new(source: impl AsRef<OsStr>, target: &Path, kind: &str, flags: libc::c_ulong) -> Result<Self> {
        Ok(Self {
            source: CString::new(source.as_ref().as_bytes())?,
            target: CString::new(target.as_os_str().as_bytes())?,
            kind: CString::new(kind)?,
            flags,
        })
    }

    fn take(&self) -> io::Result<()> {
        // SAFETY: mount(2) reads three strings that end with a zero and live until it returns.
        let done = unsafe {
            libc::mount(
                self.source.as_ptr(),
                self.target.as_ptr(),
                self.kind.as_ptr(),
                self.flags,
                ptr::null(),
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Container {
    /// Makes its root on the host with `program` in it.
    ///
    /// # Errors
    /// When a folder cannot be made or written.
    pub fn prepare(&self, program: &Path) -> Result<Prepared> {
        let root = tempfile::Builder::new().prefix("rstrace-container-").tempdir()?;
        copy_program(program, &root.path().join("rstrace"))?;
        self.prepare_in(root)
    }

    /// The same in a root that has its program already.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn prepare_in(&self, root: TempDir) -> Result<Prepared> {
        let steps = self.steps(root.path())?;
        let place = CString::new(root.path().as_os_str().as_bytes())?;
        let kept = crate::capabilities::mask(&self.capabilities);
        if let Some(cgroup) = &self.cgroup {
            ensure!(cgroup.is_dir(), "{} is no cgroup", cgroup.display());
        }
        let processes = self.cgroup.as_ref().map(|path| path.join("cgroup.procs"));
        let processes = processes.map(|path| CString::new(path.as_os_str().as_bytes())).transpose()?;
        let mut command = Command::new(PROGRAM);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().cloned());
        // SAFETY: between fork and exec this makes system calls with memory that was allocated before, all of them
        // async-signal-safe, and reads errno.
        unsafe { command.pre_exec(move || enter(processes.as_deref(), &steps, &place, kept)) };
        Ok(Prepared { command, root })
    }

    fn steps(&self, root: &Path) -> Result<Vec<Step>> {
        let inside = |at: &str| root.join(at.trim_start_matches('/'));
        for folder in ["proc", "sys"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let mut steps = vec![
            Step::new("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)?,
            Step::new(root, root, "", libc::MS_BIND)?,
            Step::new("/proc", &inside("proc"), "", libc::MS_BIND)?,
            Step::new("sysfs", &inside("sys"), "sysfs", libc::MS_RDONLY)?,
        ];
        for mount in &self.mounts {
            match mount {
                // A machine that is no node of a cluster has no logs of pods.
                Mount::Host { path, at, .. }
                    if path.starts_with("/var/log/") && !Path::new(path).exists() =>
                {
                    fs::create_dir_all(inside(at))?;
                    steps.push(Step::new("tmpfs", &inside(at), "tmpfs", 0)?);
                }
                Mount::Host { path, at, read_only } => {
                    if !at.starts_with("/sys/") {
                        fs::create_dir_all(inside(at))?;
                    }
                    steps.push(Step::new(path, &inside(at), "", libc::MS_BIND | libc::MS_REC)?);
                    if *read_only {
                        let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
                        steps.push(Step::new("none", &inside(at), "", flags)?);
                    }
                }
                Mount::Empty { at } => {
                    fs::create_dir_all(inside(at))?;
                    steps.push(Step::new("tmpfs", &inside(at), "tmpfs", 0)?);
                }
            }
        }
        if self.read_only_root {
            steps.push(Step::new("none", root, "", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY)?);
        }
        Ok(steps)
    }
}

fn enter(cgroup: Option<&std::ffi::CStr>, steps: &[Step], root: &CString, kept: u64) -> io::Result<()> {
    let well = |done: i32| if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) };
    if let Some(processes) = cgroup {
        // SAFETY: the path ends with a zero; the buffer is as long as is said.
        unsafe {
            let file = well(libc::open(processes.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
            if libc::write(file, c"0".as_ptr().cast(), 1) != 1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    // SAFETY: unshare(2) takes no pointers.
    well(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP) })?;
    steps.iter().try_for_each(Step::take)?;
    // SAFETY: both paths end with a zero; prctl(2) takes no pointers here.
    unsafe {
        well(libc::chroot(root.as_ptr()))?;
        well(libc::chdir(c"/".as_ptr()))?;
        well(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    bound_by(kept)
}
