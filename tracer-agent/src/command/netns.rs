//! Network namespaces as typed, looked up.

use super::Usage;
use crate::cli::Netns;
use crate::kernel::netns;

/// The inode number that is meant.
pub(super) fn inum(typed: &Netns) -> Result<u32, Usage> {
    match typed {
        Netns::Inum(inum) => Ok(*inum),
        Netns::Path(path) => netns::inode(path).map_err(|error| Usage(error.to_string())),
    }
}
