//! Where things are: the workspace, what is built, the tools of the build, the logs of the tests.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernel programs' target on this machine.
pub const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// What is off unless it is asked for, as cargo wants it beside several packages.
pub const ALL_FEATURES: &str = "tracer-agent/kubernetes";

/// The folder of the root `Cargo.toml`.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// The release build of rstrace.
pub fn rstrace() -> PathBuf {
    target().join("release/rstrace")
}

/// What cargo builds; its own variable may move it.
pub fn target() -> PathBuf {
    workspace().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where tools are installed that belong to this checkout alone. `tracer-agent/build.rs` looks here first.
pub fn tools() -> PathBuf {
    workspace().join("target/tools")
}

pub fn test_logs() -> PathBuf {
    workspace().join("target/test-logs")
}

/// The cargo that runs this task, in the workspace.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// The first file of this name in `PATH`, or where administrators' programs are: Debian keeps those out of a
/// user's `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]), name.as_ref())
}

fn find_in(folders: impl Iterator<Item = PathBuf>, name: &OsStr) -> Option<PathBuf> {
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
