//! A memory cgroup with a limit, on machines with version 1 and with version 2.
//! It only bounds memory; it is for the one test whose fault is the kernel's OOM killer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::netns::unique_port;
use crate::process::poll;

/// A cgroup of this test's own, removed on drop.
#[derive(Debug)]
pub struct MemoryCgroup {
    folder: PathBuf,
}

impl MemoryCgroup {
    /// Makes a cgroup whose processes may use `bytes` of memory and no swap.
    ///
    /// # Errors
    /// When no memory controller is mounted or the limit cannot be set.
    pub fn create(bytes: u64) -> Result<Self> {
        let (root, version) = memory_controller()?;
        let folder = root.join(format!("rstrace-test-{}-{}", std::process::id(), unique_port()));
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let cgroup = Self { folder };
        let (limit, swap) = match version {
            Version::One => ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes)),
            Version::Two => ("memory.max", ("memory.swap.max", 0)),
        };
        cgroup.write(limit, bytes)?;
        // Kernels without swap accounting have no such file, and then there is nothing to bound.
        let _ = cgroup.write(swap.0, swap.1);
        Ok(cgroup)
    }

    /// Moves a process into the cgroup.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", u64::from(pid))
    }

    /// The cgroup's last path component, as it ends the agent's `cgroup` strings.
    pub fn name(&self) -> String {
        self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string()).with_context(|| format!("write {value} to {}", path.display()))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // The kernel refuses while the killed process is still being taken down.
        let limit = std::time::Duration::from_secs(2);
        if let Err(error) = poll("remove the cgroup", limit, || fs::remove_dir(&self.folder).ok()) {
            eprintln!("{}: {error:#}", self.folder.display());
        }
    }
}

enum Version {
    One,
    Two,
}

fn memory_controller() -> Result<(PathBuf, Version)> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mut unified = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(at), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                return Ok((at.into(), Version::One));
            }
            "cgroup2" => unified = Some(PathBuf::from(at)),
            _ => {}
        }
    }
    let root = unified.context("no cgroup file system with a memory controller is mounted")?;
    delegate_memory(&root)?;
    Ok((root, Version::Two))
}

/// In version 2 a child has only the controllers that its parent hands down.
fn delegate_memory(root: &Path) -> Result<()> {
    let path = root.join("cgroup.subtree_control");
    fs::write(&path, "+memory")
        .with_context(|| format!("hand the memory controller down in {}", path.display()))
}
