//! Builds what runs inside the machine: static programs, because there is no C library there.
//!
//! They have a target folder of their own, so that building them does not undo the ordinary build.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::layout;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const OBJECT_VARIABLE: &str = "RSTRACE_BPF_OBJECT";

/// The programs of the machine, as files on this host.
#[derive(Debug)]
pub struct Binaries {
    pub agent: PathBuf,
    pub server: PathBuf,
    pub init: PathBuf,
}

/// Builds all of them, the kernel programs included.
///
/// # Errors
/// When cargo fails; it has then said why.
pub fn build(folder: &Path) -> Result<Binaries> {
    let object = match std::env::var_os(OBJECT_VARIABLE) {
        Some(object) => object,
        None => bpf_object()?,
    };
    let target = folder.join("build");
    let mut build = layout::cargo();
    build.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(&target);
    build.args(["-p", "tracer-agent", "-p", "rstrace-tests"]);
    build.args(["--bin", "rstrace", "--bin", "fault_server", "--bin", "vm_init"]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static").env(OBJECT_VARIABLE, object);
    // Speed counts for nothing in there, and linking three programs without it is a matter of seconds.
    build.env("CARGO_PROFILE_RELEASE_LTO", "off");
    let status = build.status().context("run cargo")?;
    ensure!(status.success(), "cargo could not build the programs of the virtual machine ({status})");

    let programs = target.join(TARGET).join("release");
    Ok(Binaries {
        agent: programs.join("rstrace"),
        server: programs.join("fault_server"),
        init: programs.join("vm_init"),
    })
}

/// The kernel programs as the ordinary build makes them: they are the same for every host target,
/// and their own build must not see this one's flags.
fn bpf_object() -> Result<OsString> {
    let mut build = layout::cargo();
    build.args(["build", "--release", "-p", "tracer-agent", "--message-format", "json-render-diagnostics"]);
    let output = build.stderr(Stdio::inherit()).output().context("run cargo")?;
    ensure!(output.status.success(), "cargo could not build tracer-agent ({})", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let folder =
        messages.lines().find_map(out_folder).context("cargo names no output of tracer-agent/build.rs")?;
    Ok(folder.join("rstrace-bpf").into())
}

/// The build script's output folder, if this line of cargo's is about the agent's.
fn out_folder(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ours = message["reason"] == "build-script-executed"
        && message["package_id"].as_str().is_some_and(|id| id.contains("/tracer-agent#"));
    ours.then(|| message["out_dir"].as_str().map(PathBuf::from)).flatten()
}

#[cfg(test)]
mod tests {
    use super::out_folder;

    #[test]
    fn only_the_agents_build_script_counts() {
        let line = |package: &str| {
            format!(
                r#"{{"reason":"build-script-executed","package_id":"path+file:///src/{package}#0.1.0","out_dir":"/out"}}"#
            )
        };
        assert_eq!(out_folder(&line("tracer-agent")), Some("/out".into()));
        assert_eq!(out_folder(&line("libc")), None);
        assert_eq!(out_folder("not json"), None);
    }
}
