//! Network namespaces by their inode numbers.

use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Not the file of a network namespace.
#[derive(Debug, Error)]
#[error("{} is no network namespace: {source}; give a file such as /run/netns/web or /proc/812/ns/net, or an inode number", path.display())]
pub struct NetnsError {
    path: PathBuf,
    source: std::io::Error,
}

/// The agent's own network namespace, 0 if /proc is not to be had.
#[must_use]
pub fn own() -> u32 {
    inode(Path::new("/proc/self/ns/net")).unwrap_or(0)
}

/// Inode number of the namespace that a file stands for.
///
/// # Errors
/// If there is no such file, or it is none of a namespace.
pub fn inode(path: &Path) -> Result<u32, NetnsError> {
    let failed = |source| NetnsError { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Every namespace is a file of nsfs; nothing else is.
    let kind = rustix::fs::fstatfs(&file).map_err(|errno| failed(errno.into()))?.f_type;
    let metadata = file.metadata().map_err(failed)?;
    let is_nsfs = kind == NSFS_MAGIC;
    match u32::try_from(metadata.st_ino()) {
        Ok(inode) if is_nsfs => Ok(inode),
        _ => Err(failed(std::io::Error::other("it is another kind of file"))),
    }
}

/// `NSFS_MAGIC` of include/uapi/linux/magic.h.
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_has_a_number() {
        assert_ne!(own(), 0);
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let error = inode(Path::new("/proc/version")).expect_err("no namespace").to_string();
        assert!(error.starts_with("/proc/version is no network namespace"), "{error}");
    }
}
