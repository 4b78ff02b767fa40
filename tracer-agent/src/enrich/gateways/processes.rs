//! Which gateways run on this host: from /proc, by the names of processes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::registration::Proxy;

/// A gateway that runs: its master, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub proxy: Proxy,
    pub pid: u32,
    /// Ticks after the boot: tells it from a later one with its number.
    pub start: u64,
    pub parent: u32,
}

/// Finds gateways again and again.
#[derive(Debug, Default)]
pub struct Processes {
    /// Processes that were no gateways, and how often that was seen: one that was just forked is not yet what it
    /// will be.
    others: HashMap<u32, u8>,
    /// Gateways and their workers.
    gateways: HashSet<u32>,
    looks: u64,
}

/// Looks after which a process keeps its name.
const SETTLED: u8 = 2;
/// Looks after which every process is looked at again, since numbers are given anew.
const ALL_AGAIN: u64 = 30;

// === impl Processes ===

impl Processes {
    /// The gateways that run, without their workers. `doubtful` processes are looked at whatever was seen before.
    pub fn look(&mut self, doubtful: &[u32]) -> Vec<Process> {
        if self.looks.is_multiple_of(ALL_AGAIN) {
            self.others.clear();
        }
        self.looks += 1;
        for pid in doubtful {
            self.others.remove(pid);
        }
        let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
        let pids: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        let mut found = Vec::new();
        let mut others = HashMap::with_capacity(pids.len());
        for pid in pids {
            let seen = self.others.get(&pid).copied().unwrap_or_default();
            if seen >= SETTLED {
                others.insert(pid, seen);
                continue;
            }
            match process(pid) {
                Some(process) => found.push(process),
                None => _ = others.insert(pid, seen + 1),
            }
        }
        self.others = others;
        self.gateways = found.iter().map(|process| process.pid).collect();
        masters(found)
    }

    /// Whether this is a gateway, or a worker of one, that the last look found.
    #[must_use]
    pub fn pids(&self) -> &HashSet<u32> {
        &self.gateways
    }
}

/// Those that are no children of another of their sort.
fn masters(found: Vec<Process>) -> Vec<Process> {
    let all: HashSet<(Proxy, u32)> = found.iter().map(|process| (process.proxy, process.pid)).collect();
    let mut masters: Vec<_> = found.into_iter().filter(|p| !all.contains(&(p.proxy, p.parent))).collect();
    masters.sort_unstable_by_key(|process| (process.start, process.pid));
    masters
}

/// None: it is no gateway, or has gone.
fn process(pid: u32) -> Option<Process> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let proxy = Proxy::of_comm(comm.trim_end_matches('\n'))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (parent, start) = parent_and_start(&stat)?;
    Some(Process { proxy, pid, start, parent })
}

/// Fields 4 and 22 of `/proc/PID/stat` (proc_pid_stat(5)); the name before them may hold anything.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

/// Inode number of its network namespace.
#[must_use]
pub fn netns(pid: u32) -> Option<u32> {
    u32::try_from(fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino()).ok()
}

/// The words with which it was started. nginx writes them anew, as one text.
#[must_use]
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words(&String::from_utf8_lossy(&bytes))
}

fn words(text: &str) -> Vec<String> {
    let text = text.trim_end_matches(['\0', ' ']);
    match text.strip_prefix("nginx: master process ") {
        Some(rest) => rest.split([' ', '\0']).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        None => text.split('\0').map(str::to_owned).collect(),
    }
}

/// The folder in which it works, as it sees it.
#[must_use]
pub fn folder(pid: u32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/cwd"));
    link.map_or_else(|_| "/".to_owned(), |path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_deceives_nobody() {
        let rest = "S 7 5 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2";
        assert_eq!(parent_and_start(&format!("5 (a) R 1 (b) {rest}")), Some((7, 4242)));
        assert_eq!(parent_and_start("5 (nginx"), None);
        assert_eq!(parent_and_start(""), None);
    }

    #[test]
    fn nginx_writes_its_words_as_one_text() {
        let master = "nginx: master process /usr/sbin/nginx -c /etc/n.conf -g daemon off;\0\0\0";
        assert_eq!(words(master), ["/usr/sbin/nginx", "-c", "/etc/n.conf", "-g", "daemon", "off;"]);
        assert_eq!(words("haproxy\0-W\0-f\0/a b.cfg\0"), ["haproxy", "-W", "-f", "/a b.cfg"]);
    }

    #[test]
    fn workers_are_not_told_apart_from_their_master() {
        let process = |proxy, pid, parent| Process { proxy, pid, start: u64::from(pid), parent };
        let found = vec![
            process(Proxy::Nginx, 3, 2),
            process(Proxy::Nginx, 2, 1),
            process(Proxy::Haproxy, 4, 2),
            process(Proxy::Haproxy, 5, 4),
        ];
        let pids: Vec<_> = masters(found).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [2, 4]);
    }
}
