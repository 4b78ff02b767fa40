//! Which Rust toolchain on this machine can produce `core` for the BPF target, for which rustup has no prebuilt
//! one. Compiled into the build script, which uses the answer, and into xtask, whose set-up makes sure that
//! there is one: the two must not disagree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's compiler, which a rustup toolchain may hide in `PATH`.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where `core` for the kernel programs comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CoreSource {
    /// Compiled from the rust-src component of the toolchain in this directory.
    RustSrc(PathBuf),
    /// Prebuilt, by Debian's package libstd-rust-*-dev-bpf, for Debian's compiler.
    Debian,
}

impl CoreSource {
    /// The first of: the active toolchain, nightly, Debian's compiler.
    pub(crate) fn find(active_rustc: &Path, target: &str) -> Option<Self> {
        let active = sysroot(&mut Command::new(active_rustc));
        let nightly = || sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
        active
            .filter(|sysroot| has_rust_src(sysroot))
            .or_else(|| nightly().filter(|sysroot| has_rust_src(sysroot)))
            .map(Self::RustSrc)
            .or_else(|| has_prebuilt_core(target).then_some(Self::Debian))
    }
}

/// Where the toolchain of this `rustc` lives, or `None` if there is no such toolchain.
pub(crate) fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc
        .args(["--print", "sysroot"])
        // rustup must answer from what is installed, and must not fetch a toolchain in order to answer.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim_end()))
}

/// A nightly toolchain without this component cannot build `core`, and a released one with it can.
pub(crate) fn has_rust_src(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
}

fn has_prebuilt_core(target: &str) -> bool {
    let Ok(output) =
        Command::new(DEBIAN_RUSTC).args(["--print", "target-libdir", "--target", target]).output()
    else {
        return false;
    };
    let libdir = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    fs::read_dir(libdir).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"libcore-"))
        })
    })
}
