//! Packs the programs into the file system that the kernel unpacks into memory and boots from.
//!
//! It is not compressed (qemu reads it from a file at once, the emulated processor would be slow to
//! decompress it) and has no kernel modules: Debian's kernels have loopback, IPv6 and cgroups built in.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use super::binaries::Binaries;

/// Where `vm_init` mounts file systems, and where the programs lie.
const FOLDERS: [&str; 6] = ["bin", "dev", "proc", "run", "sys", "tmp"];

/// Writes the archive to `file`, at once: a machine that another run boots reads the earlier one or this one.
///
/// # Errors
/// When a program is missing or `file` cannot be written.
pub fn pack(binaries: &Binaries, file: &Path) -> Result<()> {
    let Binaries { agent, server, init } = binaries;
    let part = file.with_extension("part");
    let mut archive =
        BufWriter::new(File::create(&part).with_context(|| format!("create {}", part.display()))?);
    for name in FOLDERS {
        let folder = Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Directory);
        folder.write(&mut archive, 0).finish()?;
    }
    for (name, program) in [("init", init), ("bin/rstrace", agent), ("bin/fault_server", server)] {
        let content = fs::read(program).with_context(|| format!("read {}", program.display()))?;
        let size =
            u32::try_from(content.len()).with_context(|| format!("{} is too big", program.display()))?;
        let entry = Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Regular);
        let mut entry = entry.write(&mut archive, size);
        entry.write_all(&content)?;
        entry.finish()?;
    }
    trailer(archive)?.flush().with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, file).with_context(|| format!("rename to {}", file.display()))
}
