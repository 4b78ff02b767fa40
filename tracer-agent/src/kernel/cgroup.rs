//! Paths of cgroups: from a process that lives, else from the number that the programs saw.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::event::Process;

/// Paths remembered of each kind; a full table begins anew. A host has some hundreds of cgroups.
const CAPACITY: usize = 4096;
/// Directories visited at most in one search by number.
const VISITS: usize = 20_000;

/// Remembers the path of each cgroup and process seen.
#[derive(Debug, Default)]
pub struct Cgroups {
    paths: HashMap<u64, Option<String>>,
    /// By tgid and start time. A process that is moved to another cgroup keeps its first one here.
    processes: HashMap<(u32, u64), String>,
}

impl Cgroups {
    /// Path of the cgroup of a process, such as `/system.slice/nginx.service`. On a host with cgroup v1 the
    /// memory controller's path is given where the default hierarchy only has its root.
    pub fn of(&mut self, process: &Process) -> Option<String> {
        let key = (process.tgid, process.start_boottime);
        if let Some(path) = self.processes.get(&key) {
            return Some(path.clone());
        }
        let living = fs::read_to_string(format!("/proc/{}/cgroup", process.tgid)).ok();
        let path = match living.as_deref().and_then(parse) {
            // In a container's own view of the cgroups, others' paths begin at its own. The number leads to the whole
            // path where /sys/fs/cgroup is the host's; on a host with cgroup v1 it says nothing.
            Some(relative) if relative.starts_with("/..") => {
                self.by_id(process.cgroup_id).filter(|path| path != "/").unwrap_or(relative)
            }
            Some(path) => path,
            None => self.by_id(process.cgroup_id)?,
        };
        remember(&mut self.processes, key, path.clone());
        Some(path)
    }

    fn by_id(&mut self, id: u64) -> Option<String> {
        if id == 0 {
            return None;
        }
        if let Some(known) = self.paths.get(&id) {
            return known.clone();
        }
        let found =
            ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].iter().find_map(|root| search(Path::new(root), id));
        remember(&mut self.paths, id, found.clone());
        found
    }
}

/// Adds an entry; a full table begins anew.
fn remember<K: Eq + Hash, V>(table: &mut HashMap<K, V>, key: K, value: V) {
    if table.len() >= CAPACITY {
        table.clear();
    }
    table.insert(key, value);
}

/// The path in `/proc/PID/cgroup` (cgroups(7)): the default hierarchy's, else the memory controller's.
fn parse(text: &str) -> Option<String> {
    let lines =
        || text.lines().filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')));
    let unified = lines().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| path);
    let memory =
        lines().find(|(controllers, _)| controllers.split(',').any(|c| c == "memory")).map(|(_, path)| path);
    match (unified, memory) {
        (Some(path), _) if path != "/" => Some(path.into()),
        (_, Some(path)) => Some(path.into()),
        (unified, None) => unified.map(Into::into),
    }
}

/// The directory below `root` whose inode number is `id`; that is what the kernel's cgroup ids are.
fn search(root: &Path, id: u64) -> Option<String> {
    let mut open = vec![PathBuf::from(root)];
    for _ in 0..VISITS {
        let directory = open.pop()?;
        if fs::metadata(&directory).ok()?.ino() == id {
            let path = directory.strip_prefix(root).ok()?.to_string_lossy().into_owned();
            return Some(format!("/{path}"));
        }
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        open.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_hierarchy_comes_first() {
        assert_eq!(parse("0::/system.slice/nginx.service\n"), Some("/system.slice/nginx.service".into()));
    }

    #[test]
    fn a_v1_host_gives_the_memory_controllers_path() {
        let text = "9:memory:/kubepods/pod1\n8:cpu,cpuacct:/x\n0::/\n";
        assert_eq!(parse(text), Some("/kubepods/pod1".into()));
    }

    #[test]
    fn nonsense_has_no_path() {
        assert_eq!(parse("nonsense\n:\n"), None);
        assert_eq!(parse(""), None);
    }
}
