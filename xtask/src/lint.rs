//! Formatting and lints. The kernel programs are linted for their own target: compiled for the host they are
//! empty.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::layout::{self, BPF_TARGET};
use crate::outcome::Outcome;
use crate::setup;
use crate::toolchain::{CoreSource, DEBIAN_RUSTC};

const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// Runs each check to its end and lets it speak for itself.
///
/// # Errors
/// When a check cannot be started.
pub fn run() -> Result<Outcome> {
    setup::run(false)?;
    setup::for_lint()?;
    let mut outcome = Outcome::default();
    for mut command in [format(), clippy(), lean(), kernel_clippy()?] {
        let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
        outcome += Outcome::of_one(status.success());
    }
    Ok(outcome)
}

pub fn format() -> Command {
    let mut cargo = layout::cargo();
    cargo.args(["fmt", "--all", "--check", "--", "--color", "never"]);
    cargo
}

pub fn clippy() -> Command {
    let mut cargo = layout::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--features", layout::ALL_FEATURES]);
    cargo.args(["--", "--deny", "warnings"]);
    cargo
}

/// The smallest agent that can be built.
pub fn lean() -> Command {
    let mut cargo = layout::cargo();
    cargo.args(["clippy", "--package", "tracer-agent", "--no-default-features", "--", "--deny", "warnings"]);
    cargo
}

/// # Errors
/// When no toolchain here can compile the kernel programs.
pub fn kernel_clippy() -> Result<Command> {
    let source =
        setup::core_source().context("no toolchain can compile the kernel programs: run `./dev setup`")?;
    let mut command = match source {
        CoreSource::Debian => {
            let mut clippy = Command::new(DEBIAN_CLIPPY);
            clippy.arg("clippy").env("RUSTC", DEBIAN_RUSTC);
            clippy
        }
        CoreSource::RustSrc(sysroot) => {
            let bin = sysroot.join("bin");
            let mut cargo = Command::new(bin.join("cargo"));
            let inherited = env::var_os("PATH").unwrap_or_default();
            let path = env::join_paths(std::iter::once(bin).chain(env::split_paths(&inherited)))?;
            cargo.args(["clippy", "-Zbuild-std=core"]).env("PATH", path);
            cargo
        }
    };
    command
        .current_dir(layout::workspace())
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["--package", "tracer-ebpf", "--bin", "rstrace-bpf", "--release", "--target", BPF_TARGET])
        // Another compiler than the host's would otherwise make cargo forget what the host's has built.
        .arg("--target-dir")
        .arg(layout::workspace().join("target/kernel-clippy"))
        // aya's macros call every hook with its context by value.
        .args(["--", "--deny", "warnings", "--allow", "clippy::needless_pass_by_value"]);
    Ok(command)
}
