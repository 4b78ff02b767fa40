//! BPF programs and maps of this machine that nobody holds: what a process leaves behind that did not let go of all.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use anyhow::{Context, Result, ensure};

use crate::bpf;

/// Commands of bpf(2).
const PROG_GET_NEXT_ID: i32 = 11;
const MAP_GET_NEXT_ID: i32 = 12;

/// A program or a map, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    Program(u32),
    Map(u32),
}

/// Head of `union bpf_attr` for the commands above.
#[repr(C)]
struct Ids {
    start: u32,
    next: u32,
    flags: u32,
}

/// Those of which no process has a descriptor.
///
/// # Errors
/// When this process may not list them.
pub fn of_nobody() -> Result<BTreeSet<Object>> {
    let mut objects: BTreeSet<Object> = all(PROG_GET_NEXT_ID)?.into_iter().map(Object::Program).collect();
    objects.extend(all(MAP_GET_NEXT_ID)?.into_iter().map(Object::Map));
    let held = held_by(None)?;
    Ok(objects.difference(&held).copied().collect())
}

/// Those of which a process has a descriptor.
///
/// # Errors
/// When it has ended, or this process may not look.
pub fn held_by_process(pid: u32) -> Result<BTreeSet<Object>> {
    held_by(Some(pid))
}

fn held_by(pid: Option<u32>) -> Result<BTreeSet<Object>> {
    let mut held = BTreeSet::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let wanted = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if wanted.is_none() || pid.is_some() && wanted != pid {
            continue;
        }
        // Whoever ends meanwhile holds nothing.
        let Ok(files) = fs::read_dir(process.path().join("fdinfo")) else { continue };
        for text in files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok()) {
            held.extend(text.lines().filter_map(object));
        }
    }
    Ok(held)
}

/// A line of /proc/PID/fdinfo/FD: that of a link names its program as well.
fn object(line: &str) -> Option<Object> {
    let (key, value) = line.split_once(':')?;
    let id = value.trim().parse().ok()?;
    match key {
        "prog_id" => Some(Object::Program(id)),
        "map_id" => Some(Object::Map(id)),
        _ => None,
    }
}

fn all(command: i32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut ids = Ids { start: 0, next: 0, flags: 0 };
    loop {
        if let Err(error) = bpf::done(command, &mut ids) {
            ensure!(error.raw_os_error() == Some(libc::ENOENT), "list BPF objects: {error}");
            return Ok(found);
        }
        found.push(ids.next);
        ids.start = ids.next;
    }
}

/// What is pinned in the BPF file system; nothing where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn pinned() -> Result<BTreeSet<std::path::PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from("/sys/fs/bpf")];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("read {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    Ok(found)
}
