//! Cgroups of the memory controller, on machines with version 1 and with version 2: one with a limit, for the tests
//! whose fault is the kernel's OOM killer, and ones that are called as container runtimes call theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        let folder = own_folder(&root);
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
        name(&self.folder)
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string()).with_context(|| format!("write {value} to {}", path.display()))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// A cgroup without limits at a path of the test's choice, below a folder of its own; removed on drop.
#[derive(Debug)]
pub struct NamedCgroup {
    /// The outermost first.
    folders: Vec<PathBuf>,
}

impl NamedCgroup {
    /// Makes `path`, such as `kubepods/burstable/pod…/…`.
    ///
    /// # Errors
    /// When no memory controller is mounted or a folder cannot be made.
    pub fn create(path: &str) -> Result<Self> {
        let (root, _) = memory_controller()?;
        let mut folder = own_folder(&root);
        let mut cgroup = Self { folders: Vec::new() };
        for name in std::iter::once("").chain(path.split('/')) {
            folder.push(name);
            fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
            cgroup.folders.push(folder.clone());
        }
        Ok(cgroup)
    }

    /// Makes one of version 2, in which processes may make others.
    ///
    /// # Errors
    /// When version 2 is not mounted, or the folder cannot be made.
    pub fn unified() -> Result<Self> {
        let (_, unified) = mounted()?;
        let folder = own_folder(&unified.context("cgroups of version 2 are not mounted")?);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { folders: vec![folder] })
    }

    /// The innermost.
    pub fn folder(&self) -> &Path {
        self.folders.last().map(PathBuf::as_path).unwrap_or(Path::new(""))
    }

    /// Its last path component.
    pub fn name(&self) -> String {
        name(self.folder())
    }

    /// The file to which a process writes `0` to move itself here.
    pub fn processes(&self) -> PathBuf {
        self.folder().join("cgroup.procs")
    }

    /// Moves a process into the cgroup.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, pid: u32) -> Result<()> {
        let path = self.processes();
        fs::write(&path, pid.to_string()).with_context(|| format!("write {pid} to {}", path.display()))
    }
}

impl Drop for NamedCgroup {
    fn drop(&mut self) {
        self.folders.iter().rev().for_each(|folder| remove(folder));
    }
}

/// With what was made in it.
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // The kernel refuses while the killed processes are still being taken down.
    let limit = Duration::from_secs(10);
    if let Err(error) = poll("remove the cgroup", limit, || fs::remove_dir(folder).ok()) {
        eprintln!("{}: {error:#}", folder.display());
    }
}

fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn own_folder(root: &Path) -> PathBuf {
    root.join(format!("rstrace-test-{}-{}", std::process::id(), unique_port()))
}

enum Version {
    One,
    Two,
}

/// Where the memory controller of version 1 is, and where version 2 is.
fn mounted() -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let (mut memory, mut unified) = (None, None);
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(at), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => memory = Some(at.into()),
            "cgroup2" => unified = Some(at.into()),
            _ => {}
        }
    }
    Ok((memory, unified))
}

fn memory_controller() -> Result<(PathBuf, Version)> {
    let (memory, unified) = mounted()?;
    if let Some(memory) = memory {
        return Ok((memory, Version::One));
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
