//! Files as a gateway's process sees them, through `/proc/PID/root`, with bounds.
//!
//! A container's absolute symbolic links lead to its own files, not to this host's, and to nothing outside of it:
//! openat2(2) resolves them in that root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};

/// Bytes of one file. An ingress controller for thousands of services writes some megabytes.
const FILE: u64 = 4 << 20;
/// Bytes of all files of one gateway.
const BYTES: u64 = 16 << 20;
/// Files of one gateway, and names in the folders that its wildcards look into.
const FILES: usize = 2000;

/// The root folder of a process.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// What was read, so that a change of it can be noticed without reading it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<String, Option<Stamp>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, u64),
    size: i64,
}

/// Reads files and folders of one root, and remembers which.
#[derive(Debug)]
pub struct Files<'a> {
    root: &'a Root,
    stamps: Stamps,
    read: BTreeSet<String>,
    /// How often something was read: a file may include itself.
    reads: usize,
    bytes: u64,
    /// What a bound left out: files, and names in folders.
    left_out: u64,
}

impl Root {
    /// The root of a process.
    ///
    /// # Errors
    /// If it has gone, or this process may not look there.
    pub fn of(pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())?))
    }

    #[cfg(test)]
    pub fn at(path: &std::path::Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self(openat(CWD, path, flags, Mode::empty()).unwrap())
    }

    fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        Ok(openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }

    fn stamp(&self, path: &str) -> Option<Stamp> {
        let stat = fstat(self.open(path, OFlags::PATH).ok()?).ok()?;
        Some(Stamp::of(&stat))
    }

    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    #[must_use]
    pub fn is_folder(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        Self { device: stat.st_dev, inode: stat.st_ino, modified, size: stat.st_size }
    }
}

impl Stamps {
    /// Whether nothing has changed there.
    #[must_use]
    pub fn hold(&self, root: &Root) -> bool {
        self.0.iter().all(|(path, stamp)| root.stamp(path) == *stamp)
    }
}

impl<'a> Files<'a> {
    #[must_use]
    pub fn new(root: &'a Root) -> Self {
        Self { root, stamps: Stamps::default(), read: BTreeSet::new(), reads: 0, bytes: 0, left_out: 0 }
    }

    /// The text of a file; what is no UTF-8 in it is replaced.
    ///
    /// # Errors
    /// If it cannot be read, is no file, or a bound is reached.
    pub fn text(&mut self, path: &str) -> io::Result<String> {
        if self.reads >= FILES || self.bytes >= BYTES {
            self.left_out += 1;
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "left out: too many files, or too large together",
            ));
        }
        self.reads += 1;
        // Before it is read: a change meanwhile is noticed.
        self.stamps.0.insert(path.to_owned(), self.root.stamp(path));
        // A pipe in place of a file must not be waited for.
        let file = self.root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
        }
        let mut bytes = Vec::new();
        let limit = FILE.min(BYTES - self.bytes);
        let length = File::from(file).take(limit + 1).read_to_end(&mut bytes)? as u64;
        if length > limit {
            self.left_out += 1;
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("larger than {limit} bytes")));
        }
        self.bytes += length;
        self.read.insert(path.to_owned());
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The paths that a pattern of glob(7) stands for, in their order. One without wildcards stands for itself.
    pub fn matching(&mut self, pattern: &str) -> Vec<String> {
        let mut paths = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            if !part.contains(['*', '?', '[']) {
                paths.iter_mut().for_each(|path| *path = format!("{path}/{part}"));
                continue;
            }
            let Ok(wanted) = glob::Pattern::new(part) else { return Vec::new() };
            let options =
                glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
            let mut found = Vec::new();
            for folder in paths {
                let names = self.names(&folder);
                let names = names.iter().filter(|name| wanted.matches_with(name, options));
                found.extend(names.map(|name| format!("{folder}/{name}")));
            }
            paths = found;
        }
        paths
    }

    /// The names in a folder, in their order.
    pub fn names(&mut self, folder: &str) -> Vec<String> {
        let folder = if folder.is_empty() { "/" } else { folder };
        self.stamps.0.insert(folder.to_owned(), self.root.stamp(folder));
        let opened = self.root.open(folder, OFlags::RDONLY | OFlags::DIRECTORY);
        let Some(entries) = opened.ok().and_then(|folder| Dir::new(folder).ok()) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort_unstable();
        self.left_out += names.len().saturating_sub(FILES) as u64;
        names.truncate(FILES);
        names
    }

    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The files that were read, and the stamps of all that was looked at.
    #[must_use]
    pub fn finish(self) -> (Vec<String>, Stamps) {
        (self.read.into_iter().collect(), self.stamps)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/on")).unwrap();
        fs::create_dir_all(folder.path().join("etc/all")).unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.off"] {
            fs::write(folder.path().join("etc/all").join(name), name).unwrap();
        }
        symlink("/etc/all/a.conf", folder.path().join("etc/on/a.conf")).unwrap();
        symlink("/../../../../../etc/passwd", folder.path().join("etc/on/out.conf")).unwrap();
        folder
    }

    #[test]
    fn a_pattern_gives_paths_in_order() {
        let folder = folder();
        let root = Root::at(folder.path());
        let mut files = Files::new(&root);
        assert_eq!(files.matching("/etc/all/*.conf"), ["/etc/all/a.conf", "/etc/all/b.conf"]);
        assert_eq!(files.matching("/etc/*/a.conf"), ["/etc/all/a.conf", "/etc/on/a.conf"]);
        assert_eq!(files.matching("/etc/none"), ["/etc/none"]);
        assert_eq!(files.matching("/none/*"), [""; 0]);
        assert_eq!(files.matching("/etc/[/x"), [""; 0]);
    }

    #[test]
    fn links_stay_within_the_root() {
        let folder = folder();
        let root = Root::at(folder.path());
        let mut files = Files::new(&root);
        assert_eq!(files.text("/etc/on/a.conf").unwrap(), "a.conf");
        assert!(files.text("/etc/on/out.conf").is_err(), "the password file of this host");
        assert!(files.text("/etc/on").is_err(), "a folder");
    }

    #[test]
    fn changes_are_noticed() {
        let folder = folder();
        let root = Root::at(folder.path());
        let mut files = Files::new(&root);
        files.text("/etc/all/a.conf").unwrap();
        files.matching("/etc/on/*.conf");
        let (read, stamps) = files.finish();
        assert_eq!(read, ["/etc/all/a.conf"]);
        assert!(stamps.hold(&root));
        symlink("/etc/all/b.conf", folder.path().join("etc/on/b.conf")).unwrap();
        assert!(!stamps.hold(&root), "a new file in a folder that was looked into");
        let mut files = Files::new(&root);
        files.text("/etc/all/a.conf").unwrap();
        let (_, stamps) = files.finish();
        fs::write(folder.path().join("etc/all/a.conf"), "longer than before").unwrap();
        assert!(!stamps.hold(&root));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let folder = folder();
        fs::write(folder.path().join("etc/large"), vec![b'#'; FILE as usize + 1]).unwrap();
        let root = Root::at(folder.path());
        let mut files = Files::new(&root);
        let error = files.text("/etc/large").unwrap_err().to_string();
        assert_eq!((error.as_str(), files.left_out()), ("larger than 4194304 bytes", 1));
    }
}
