//! Builds the kernel programs (package `tracer-ebpf`, binary `rstrace-bpf`) and leaves the object in `OUT_DIR`,
//! from where the agent embeds it with `include_bytes_aligned!`.
//!
//! The target has no prebuilt `core` in a rustup toolchain, so this file first looks for a toolchain that can
//! produce one; aya-build then runs the inner cargo. It installs nothing: whatever is missing is an error that
//! names the one command that fixes it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

#[path = "build/toolchain.rs"]
mod toolchain;

use toolchain::CoreSource;

const OBJECT_NAME: &str = "rstrace-bpf";
const OBJECT_VARIABLE: &str = "RSTRACE_BPF_OBJECT";
const TOOLCHAIN_VARIABLE: &str = "RSTRACE_BPF_TOOLCHAIN";

/// A toolchain that can compile the kernel programs.
struct BpfToolchain {
    /// A name or an absolute directory; `rustup run` takes either.
    name: String,
    /// `core` is compiled from the toolchain's rust-src, not taken from its prebuilt libraries.
    build_core: bool,
    /// This directory has to come first in `PATH`, for a machine that has no rustup to choose the toolchain.
    bin_dir: Option<PathBuf>,
}

fn main() {
    if let Err(error) = build() {
        // Cargo shows this as one error line and fails the build; a failing exit code would add everything that
        // was printed before, and a backtrace.
        println!("cargo::error={}", format!("{error:#}").replace('\n', " "));
    }
}

fn build() -> Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let workspace = workspace_dir()?;
    let target = bpf_target()?;
    let linker_variable = linker_variable(&target);
    // All of these come before any early return: cargo forgets what the last run did not name, and an object
    // that was taken from a file would then stay embedded after the variable is gone.
    for variable in
        [OBJECT_VARIABLE, TOOLCHAIN_VARIABLE, "AYA_BUILD_SKIP", "RUSTC_BOOTSTRAP", &linker_variable]
    {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for path in [
        "tracer-ebpf/Cargo.toml",
        "tracer-ebpf/build.rs",
        "tracer-ebpf/src",
        "Cargo.toml",
        "Cargo.lock",
        "tracer-agent/build.rs",
        "tracer-agent/build",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }

    let object = out_dir.join(OBJECT_NAME);
    if let Some(prebuilt) = env::var_os(OBJECT_VARIABLE) {
        let prebuilt = workspace.join(prebuilt);
        println!("cargo::rerun-if-changed={}", prebuilt.display());
        fs::copy(&prebuilt, &object)
            .with_context(|| format!("{OBJECT_VARIABLE} names {}: cannot copy it", prebuilt.display()))?;
        return Ok(());
    }
    let linker = find_linker(&workspace, &linker_variable)?;
    println!("cargo::rerun-if-changed={}", linker.display());
    let toolchain = select_toolchain(&target, &out_dir)?;
    build_object(&workspace, &toolchain, &linker_variable, &linker, &object)
}

fn build_object(
    workspace: &Path,
    toolchain: &BpfToolchain,
    linker_variable: &str,
    linker: &Path,
    object: &Path,
) -> Result<()> {
    set_variable(linker_variable, Some(linker.as_os_str()));
    // aya-build shows whatever the inner cargo says as a warning, its progress included.
    set_variable("CARGO_TERM_QUIET", Some(OsStr::new("true")));
    // What somebody wants of the agent's own code is nothing to the kernel programs: less optimised, they do not link.
    let profile = |name: &String| name.starts_with("CARGO_PROFILE_");
    for name in env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(profile) {
        set_variable(&name, None);
    }
    // "1" makes aya-build compile `core`; without it, a released toolchain uses what it has prebuilt.
    let bootstrap = toolchain.build_core.then(|| OsStr::new("1"));
    set_variable("RUSTC_BOOTSTRAP", bootstrap);
    if let Some(bin_dir) = &toolchain.bin_dir {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let directories = std::iter::once(bin_dir.clone()).chain(env::split_paths(&inherited));
        set_variable("PATH", Some(&env::join_paths(directories)?));
    }

    // A stale object must not survive a build that produced none.
    if object.exists() {
        fs::remove_file(object).with_context(|| format!("cannot remove {}", object.display()))?;
    }
    let root_dir = workspace.join("tracer-ebpf");
    let package =
        aya_build::Package { name: "tracer-ebpf", root_dir: path_text(&root_dir)?, ..Default::default() };
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(&toolchain.name))
        .with_context(|| format!("cannot build the kernel programs with toolchain {}", toolchain.name))?;
    if !object.is_file() {
        bail!(
            "the build of the kernel programs left no object: unset AYA_BUILD_SKIP, or name a file in {OBJECT_VARIABLE}"
        );
    }
    Ok(())
}

fn select_toolchain(target: &str, out_dir: &Path) -> Result<BpfToolchain> {
    if let Ok(name) = env::var(TOOLCHAIN_VARIABLE) {
        let sysroot = toolchain::sysroot(Command::new("rustup").args(["run", &name, "rustc"]));
        let build_core = sysroot.is_some_and(|sysroot| toolchain::has_rust_src(&sysroot));
        return Ok(BpfToolchain { name, build_core, bin_dir: None });
    }
    let rustc = env::var_os("RUSTC").context("RUSTC is not set")?;
    let source = CoreSource::find(Path::new(&rustc), target).with_context(|| {
        format!("no Rust toolchain here can build the kernel programs (target {target}): run `./dev setup`")
    })?;
    let (directory, build_core) = match source {
        CoreSource::RustSrc(sysroot) => (sysroot, true),
        CoreSource::Debian => (wrap_debian(out_dir)?, false),
    };
    Ok(BpfToolchain {
        name: path_text(&directory)?.to_owned(),
        build_core,
        bin_dir: Some(directory.join("bin")),
    })
}

/// aya-ebpf needs unstable features, which a released rustc offers only under RUSTC_BOOTSTRAP; set in the
/// environment, that variable would also make aya-build compile `core`, so a wrapper sets it behind its back.
fn wrap_debian(out_dir: &Path) -> Result<PathBuf> {
    let directory = out_dir.join("debian-toolchain");
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let rustc = bin.join("rustc");
    let script = format!("#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec {} \"$@\"\n", toolchain::DEBIAN_RUSTC);
    // Cargo compiles everything again when its compiler is newer than what it compiled.
    if fs::read_to_string(&rustc).ok().as_ref() != Some(&script) {
        fs::write(&rustc, script).with_context(|| format!("cannot write {}", rustc.display()))?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
    }

    // A toolchain directory without a cargo makes rustup look for one elsewhere, nightly's first.
    let link = bin.join("cargo");
    let cargo = PathBuf::from(env::var_os("CARGO").context("CARGO is not set")?);
    if fs::read_link(&link).ok().as_deref() != Some(cargo.as_path()) {
        // It may be absent, or a link to a cargo that has moved since.
        let _ = fs::remove_file(&link);
        symlink(&cargo, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(directory)
}

fn find_linker(workspace: &Path, linker_variable: &str) -> Result<PathBuf> {
    if let Some(chosen) = env::var_os(linker_variable) {
        return Ok(PathBuf::from(chosen));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(workspace.join("target/tools/bin"))
        .chain(env::split_paths(&path))
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
        .context("bpf-linker is neither in target/tools/bin nor in PATH: run `./dev setup`")
}

fn bpf_target() -> Result<String> {
    let endian = env::var("CARGO_CFG_TARGET_ENDIAN").context("CARGO_CFG_TARGET_ENDIAN is not set")?;
    let machine = if endian == "big" { "bpfeb" } else { "bpfel" };
    Ok(format!("{machine}-unknown-none"))
}

/// The variable by which cargo takes a target's linker.
fn linker_variable(target: &str) -> String {
    let target = target.replace('-', "_").to_uppercase();
    format!("CARGO_TARGET_{target}_LINKER")
}

fn workspace_dir() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let workspace = Path::new(&package).parent();
    Ok(workspace.context("the package tracer-agent lies outside of its workspace")?.to_owned())
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not valid UTF-8", path.display()))
}

/// The inner cargo inherits this process's environment: aya-build offers no other way to it.
fn set_variable(name: &str, value: Option<&OsStr>) {
    // SAFETY: a build script is a process of its own, and this one has a single thread until aya-build starts
    // the inner cargo, after the last call of this function.
    unsafe {
        match value {
            Some(value) => env::set_var(name, value),
            None => env::remove_var(name),
        }
    }
}
