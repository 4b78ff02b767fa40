//! The pod behind a container, from what the kubelet leaves on its node: the names of directories and links below
//! /var/log. No API server is asked.
//!
//! The cgroup gives the pod's uid and the container's id; `/var/log/pods/NAMESPACE_POD_UID` has the names that belong
//! to the uid, `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log` the one that belongs to the id.

mod workload;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::container::Container;
use crate::table::Fill;

pub use workload::workload_of;

/// Where a kubelet has them unless it is told otherwise.
pub const DEFAULT_LOGS: &str = "/var/log/pods";
/// Containers remembered; the kubelet's own limit is 110 pods.
const CAPACITY: usize = 4096;
/// Names read of one directory.
const NAMES: usize = 16_384;
/// Within this time a directory may change again without another time of change.
const TICK: Duration = Duration::from_millis(100);
/// Of a label of DNS, and of a whole name: what an API server takes for names of namespaces, and of pods.
const LABEL: usize = 63;
const NAME: usize = 253;

/// A pod, and which of its containers; null is what the node's files do not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: Option<String>,
    pub name: Option<String>,
    /// As in the cgroup: with dashes, or the 32 digits of a static pod.
    pub uid: String,
    /// The container's name in the pod.
    pub container: Option<String>,
    /// `deployment/api`, `statefulset/db`; null where the pod's name does not tell.
    pub workload: Option<String>,
}

/// Answers from memory, and looks again when the directory has changed.
#[derive(Debug)]
pub struct Pods {
    logs: PathBuf,
    containers: PathBuf,
    /// By the container's id.
    known: HashMap<String, Pod>,
    /// Containers whose files did not tell all, with the state of the directories at the time.
    vague: HashMap<String, (Pod, [Option<Look>; 2])>,
    /// What had to make room.
    evicted: u64,
}

/// When a directory had changed last, as of a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    changed: SystemTime,
    /// It had rested for a while, so that no later change has the same time.
    settled: bool,
}

// === impl Pod ===

impl Pod {
    /// `shop/api-66b6c48dd5-x7x8k`; None if its names are not known.
    #[must_use]
    pub fn full_name(&self) -> Option<String> {
        Some(format!("{}/{}", self.namespace.as_deref()?, self.name.as_deref()?))
    }

    /// Whether `NAMESPACE/NAME` or `NAME` is its name, or how it begins.
    #[must_use]
    pub fn begins_with(&self, text: &str) -> bool {
        if text.contains('/') {
            self.full_name().is_some_and(|name| name.starts_with(text))
        } else {
            self.name.as_ref().is_some_and(|name| name.starts_with(text))
        }
    }

    fn nameless(uid: &str) -> Self {
        Self { namespace: None, name: None, uid: uid.to_owned(), container: None, workload: None }
    }
}

// === impl Pods ===

impl Pods {
    /// Reads in this directory, and in `containers` beside it.
    #[must_use]
    pub fn new(logs: &Path) -> Self {
        let containers = logs.parent().unwrap_or(logs).join("containers");
        Self { logs: logs.to_owned(), containers, known: HashMap::new(), vague: HashMap::new(), evicted: 0 }
    }

    /// The pod of a container; None if its cgroup is no pod's.
    pub fn of(&mut self, container: &Container) -> Option<Pod> {
        let uid = container.pod_uid.as_deref()?;
        if let Some(pod) = self.known.get(&container.id) {
            return Some(pod.clone());
        }
        let looks = [Look::at(&self.logs), Look::at(&self.containers)];
        if let Some((pod, then)) = self.vague.get(&container.id)
            && *then == looks
            && looks.iter().flatten().all(|look| look.settled)
        {
            return Some(pod.clone());
        }
        let pod = self.read(uid, &container.id);
        self.make_room();
        if pod.name.is_some() && pod.container.is_some() {
            self.vague.remove(&container.id);
            self.known.insert(container.id.clone(), pod.clone());
        } else {
            self.vague.insert(container.id.clone(), (pod.clone(), looks));
        }
        Some(pod)
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        let entries = self.known.len() + self.vague.len();
        Fill { table: "pods", entries, capacity: CAPACITY, evicted: self.evicted }
    }

    /// A full table begins anew: what still runs is found again.
    fn make_room(&mut self) {
        let entries = self.known.len() + self.vague.len();
        if entries >= CAPACITY {
            self.evicted += entries as u64;
            self.known.clear();
            self.vague.clear();
        }
    }

    fn read(&self, uid: &str, id: &str) -> Pod {
        let own = |name: &str| {
            let (namespace, pod) = names_of(name, uid)?;
            Some((name.to_owned(), namespace.to_owned(), pod.to_owned()))
        };
        let Some((folder, namespace, name)) = names_in(&self.logs).iter().find_map(|name| own(name)) else {
            return Pod::nameless(uid);
        };
        let linked =
            names_in(&self.containers).iter().find_map(|link| container_of(link, &name, &namespace, id));
        let container = linked.or_else(|| only_container(&self.logs.join(folder)));
        let workload = workload_of(&name, uid);
        Pod { namespace: Some(namespace), name: Some(name), uid: uid.to_owned(), container, workload }
    }
}

/// The namespace and the name of the pod whose directory it is.
fn names_of<'a>(folder: &'a str, uid: &str) -> Option<(&'a str, &'a str)> {
    // Neither name has a `_`.
    let (namespace, name) = folder.strip_suffix(uid)?.strip_suffix('_')?.split_once('_')?;
    (is_name(namespace, LABEL) && is_name(name, NAME)).then_some((namespace, name))
}

/// The name of the container whose link it is.
fn container_of(link: &str, pod: &str, namespace: &str, id: &str) -> Option<String> {
    let name = link.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?;
    let name = name.strip_prefix(pod)?.strip_prefix('_')?.strip_prefix(namespace)?.strip_prefix('_')?;
    is_name(name, LABEL).then(|| name.to_owned())
}

/// A pod that has ever had one container has one directory.
fn only_container(folder: &Path) -> Option<String> {
    match names_in(folder).as_slice() {
        [name] if is_name(name, LABEL) => Some(name.clone()),
        _ => None,
    }
}

/// What an API server takes as a name (RFC 1123): nothing else is passed on, whoever made the directory.
fn is_name(text: &str, longest: usize) -> bool {
    let bytes = text.as_bytes();
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= longest
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// The names in a directory that are text; none if it cannot be read.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().take(NAMES).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

// === impl Look ===

impl Look {
    fn at(folder: &Path) -> Option<Self> {
        let changed = fs::metadata(folder).ok()?.modified().ok()?;
        Some(Self { changed, settled: changed.elapsed().is_ok_and(|age| age > TICK) })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
