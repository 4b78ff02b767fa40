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
/// What the kernel appends to the path of a process that has outlived its cgroup.
const REMOVED: &str = " (deleted)";

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
            Some(OwnPath { path, unified }) => {
                // In a container's own view of the cgroups, others' paths begin at its own. The number leads to the
                // whole path where /sys/fs/cgroup is the host's; on a host with cgroup v1 it says nothing.
                let whole = path.starts_with("/..").then(|| self.by_id(process.cgroup_id)).flatten();
                let path = whole.filter(|whole| whole != "/").unwrap_or(path);
                if unified && process.cgroup_id != 0 {
                    // Whoever dies in it later is found, even if it is removed then.
                    remember(&mut self.paths, process.cgroup_id, Some(path.clone()));
                }
                path
            }
            None => self.of_dead(process)?,
        };
        remember(&mut self.processes, key, path.clone());
        Some(path)
    }

    /// By the cgroup's number. Where that is only the root's, since the host has cgroup v1, by the parent's path: a
    /// worker is in the cgroup of the master that forked it.
    fn of_dead(&mut self, process: &Process) -> Option<String> {
        let own = self.by_id(process.cgroup_id);
        if own.as_ref().is_some_and(|path| path != "/") {
            return own;
        }
        let parent = (process.parent_tgid, process.parent_start_boottime);
        self.processes.get(&parent).cloned().or(own)
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

/// A path, and whether it is the default hierarchy's, whose numbers the programs see.
#[derive(Debug, PartialEq, Eq)]
struct OwnPath {
    path: String,
    unified: bool,
}

/// Adds an entry; a full table begins anew.
fn remember<K: Eq + Hash, V>(table: &mut HashMap<K, V>, key: K, value: V) {
    if table.len() >= CAPACITY {
        table.clear();
    }
    table.insert(key, value);
}

/// The path in `/proc/PID/cgroup` (cgroups(7)): the default hierarchy's, else the memory controller's.
fn parse(text: &str) -> Option<OwnPath> {
    let lines =
        || text.lines().filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')));
    let unified = lines().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| path);
    let memory =
        lines().find(|(controllers, _)| controllers.split(',').any(|c| c == "memory")).map(|(_, path)| path);
    let (path, unified) = match (unified, memory) {
        (Some(path), _) if path != "/" => (path, true),
        (_, Some(path)) => (path, false),
        (unified, None) => (unified?, true),
    };
    Some(OwnPath { path: path.strip_suffix(REMOVED).unwrap_or(path).to_owned(), unified })
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
    use crate::output::fixture;

    #[test]
    fn the_default_hierarchy_comes_first() {
        let path = "/system.slice/nginx.service".to_owned();
        assert_eq!(parse("0::/system.slice/nginx.service\n"), Some(OwnPath { path, unified: true }));
    }

    #[test]
    fn a_v1_host_gives_the_memory_controllers_path() {
        let text = "9:memory:/kubepods/pod1\n8:cpu,cpuacct:/x\n0::/\n";
        assert_eq!(parse(text), Some(OwnPath { path: "/kubepods/pod1".to_owned(), unified: false }));
    }

    #[test]
    fn a_process_that_outlives_its_cgroup_was_in_it() {
        let read = parse("0::/kubepods/pod1 (deleted)\n").unwrap();
        assert_eq!(read.path, "/kubepods/pod1");
    }

    /// A process that never was.
    fn dead(cgroup_id: u64) -> Process {
        Process {
            cgroup_id,
            parent_tgid: 7,
            parent_start_boottime: 70,
            ..fixture::process(u32::MAX, "worker")
        }
    }

    #[test]
    fn the_dead_are_found_by_the_number_of_their_cgroup() {
        let mut cgroups = Cgroups::default();
        cgroups.paths.insert(5, Some("/kubepods/pod1/removed".to_owned()));
        assert_eq!(cgroups.of(&dead(5)).as_deref(), Some("/kubepods/pod1/removed"));
    }

    #[test]
    fn a_dead_worker_of_a_v1_host_was_where_its_master_is() {
        let mut cgroups = Cgroups::default();
        cgroups.paths.insert(1, Some("/".to_owned()));
        assert_eq!(cgroups.of(&dead(1)).as_deref(), Some("/"));
        let mut cgroups = Cgroups::default();
        cgroups.paths.insert(1, Some("/".to_owned()));
        cgroups.processes.insert((7, 70), "/kubepods/pod1".to_owned());
        assert_eq!(cgroups.of(&dead(1)).as_deref(), Some("/kubepods/pod1"));
    }

    #[test]
    fn nonsense_has_no_path() {
        assert_eq!(parse("nonsense\n:\n"), None);
        assert_eq!(parse(""), None);
    }
}
