//! Network namespaces by their inode numbers.

use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

use thiserror::Error;

/// Neither a namespace's number nor a path to one.
#[derive(Debug, Error)]
#[error("{given} is no network namespace: give its inode number or a path such as /run/netns/NAME or /proc/PID/ns/net ({source})")]
pub struct NetnsError {
    given: String,
    source: std::io::Error,
}

/// The agent's own network namespace, 0 if /proc is not to be had.
#[must_use]
pub fn own() -> u32 {
    inode(Path::new("/proc/self/ns/net")).unwrap_or(0)
}

/// Resolves `PATH|INUM`.
///
/// # Errors
/// If it is neither.
pub fn resolve(given: &str) -> Result<u32, NetnsError> {
    if let Ok(number) = given.parse() {
        return Ok(number);
    }
    inode(Path::new(given)).map_err(|source| NetnsError { given: given.into(), source })
}

fn inode(path: &Path) -> std::io::Result<u32> {
    let number = std::fs::metadata(path)?.st_ino();
    u32::try_from(number).map_err(|_| std::io::Error::other("not a namespace file"))
}
