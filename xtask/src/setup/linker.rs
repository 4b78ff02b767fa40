//! bpf-linker, which turns LLVM bitcode into the object of the kernel programs.
//!
//! It links with LLVM's library, and that must not be older than the LLVM of the compiler that writes the
//! bitcode. The compiler moves with Debian's security archive, so its version is asked for, never assumed.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::debian;
use crate::layout;

const VERSION: &str = "0.13.0";

/// The major versions of LLVM that this bpf-linker has a feature for; the last is its default.
const SUPPORTED: RangeInclusive<u32> = 21..=23;

/// An installed LLVM to build with.
struct Llvm {
    major: u32,
    prefix: PathBuf,
}

/// Makes sure that there is a bpf-linker that understands this compiler.
///
/// # Errors
/// When there is none and it cannot be built either.
pub fn ensure(rustc: &Path) -> Result<()> {
    let wanted = compiler_llvm(rustc)?;
    let own = layout::tools().join("bin/bpf-linker");
    if own.is_file() {
        // An upgrade may have taken away the library that it was linked with.
        if linked_llvm().is_some_and(|major| major >= wanted) && runs(&own) {
            return Ok(());
        }
    } else if layout::find_program("bpf-linker").is_some_and(|linker| runs(&linker)) {
        return Ok(());
    }
    if wanted > *SUPPORTED.end() {
        bail!(
            "{} uses LLVM {wanted}, bpf-linker {VERSION} knows up to {}: set RSTRACE_BPF_TOOLCHAIN to an older toolchain with rust-src",
            rustc.display(),
            SUPPORTED.end()
        );
    }
    let candidates = wanted.max(*SUPPORTED.start())..=*SUPPORTED.end();
    match find_or_install_llvm(&candidates)? {
        Some(llvm) => build(&llvm),
        None => fetch(&candidates),
    }
}

fn runs(linker: &Path) -> bool {
    Command::new(linker).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn compiler_llvm(rustc: &Path) -> Result<u32> {
    let output = Command::new(rustc).arg("-vV").output();
    let output = output.with_context(|| format!("cannot run {}", rustc.display()))?;
    llvm_major(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("`{} -vV` names no LLVM version", rustc.display()))
}

/// From the output of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    version.lines().find_map(|line| line.strip_prefix("LLVM version: ")).and_then(major)
}

fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// The LLVM of the bpf-linker in the tools folder, by cargo's own record of what it has installed there.
fn linked_llvm() -> Option<u32> {
    recorded_llvm(&fs::read_to_string(layout::tools().join(".crates2.json")).ok()?)
}

fn recorded_llvm(record: &str) -> Option<u32> {
    let record: Value = serde_json::from_str(record).ok()?;
    let installs = record["installs"].as_object()?;
    let package = format!("bpf-linker {VERSION} ");
    let (_, install) = installs.iter().find(|(name, _)| name.starts_with(&package))?;
    let features = install["features"].as_array()?.iter().filter_map(Value::as_str);
    let chosen = features.filter_map(|feature| feature.strip_prefix("llvm-")?.parse().ok()).max();
    chosen.or((install["no_default_features"] == false).then_some(*SUPPORTED.end()))
}

fn find_or_install_llvm(candidates: &RangeInclusive<u32>) -> Result<Option<Llvm>> {
    if let Some(llvm) = candidates.clone().find_map(find_llvm) {
        return Ok(Some(llvm));
    }
    if debian::is_here() {
        for major in candidates.clone() {
            let package = format!("llvm-{major}-dev");
            if debian::offers(&package)? {
                debian::install(&[package])?;
                return Ok(find_llvm(major));
            }
        }
    }
    Ok(None)
}

/// Looks where Debian puts it, then asks the `llvm-config` of that version or of none.
fn find_llvm(major: u32) -> Option<Llvm> {
    let debians = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if debians.join("lib/libLLVM.so").exists() {
        return Some(Llvm { major, prefix: debians });
    }
    [format!("llvm-config-{major}"), "llvm-config".to_owned()].into_iter().find_map(|config| {
        let answer = |question| {
            let output = Command::new(&config).arg(question).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let found = self::major(&answer("--version")?)? == major;
        let prefix = PathBuf::from(answer("--prefix")?);
        found.then_some(Llvm { major, prefix })
    })
}

fn build(llvm: &Llvm) -> Result<()> {
    let Llvm { major, prefix } = llvm;
    eprintln!("setup: building bpf-linker {VERSION} with LLVM {major}, which takes a minute");
    let status = layout::cargo()
        .args(["install", "--quiet", "--locked", "--force", "--root"])
        .arg(layout::tools())
        .args(["--no-default-features", "--features", &format!("llvm-{major}")])
        .arg(format!("bpf-linker@{VERSION}"))
        .env("LLVM_PREFIX", prefix)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("bpf-linker could not be built, see above");
    }
    Ok(())
}

/// The last resort where LLVM's library is not to be had: bpf-linker's own release, which brings it along.
fn fetch(candidates: &RangeInclusive<u32>) -> Result<()> {
    let arguments = ["--no-confirm", "--force", "--root", "target/tools"];
    let package = format!("bpf-linker@{VERSION}");
    if layout::find_program("cargo-binstall").is_some() {
        eprintln!("setup: cargo binstall {package}");
        let status = layout::cargo().arg("binstall").args(arguments).arg(&package).status();
        if status.context("cannot run cargo")?.success() {
            return Ok(());
        }
    }
    bail!(
        "bpf-linker is missing, and so is the LLVM {} to {} that it could be built with: run `cargo install cargo-binstall && cargo binstall {} {package}`",
        candidates.start(),
        candidates.end(),
        arguments.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::{llvm_major, recorded_llvm};

    #[test]
    fn the_compiler_names_its_llvm() {
        let version = "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\nLLVM version: unknown\n"), None);
        assert_eq!(llvm_major(""), None);
    }

    #[test]
    fn cargo_records_the_llvm_that_the_linker_was_built_with() {
        let record = |package: &str, features: &str, no_default: bool| {
            let install = format!(r#"{{"features":[{features}],"no_default_features":{no_default}}}"#);
            recorded_llvm(&format!(
                r#"{{"installs":{{"{package} (registry+https://example.org)":{install}}}}}"#
            ))
        };
        assert_eq!(record("bpf-linker 0.13.0", r#""llvm-22""#, true), Some(22));
        assert_eq!(record("bpf-linker 0.13.0", "", false), Some(23));
        assert_eq!(record("bpf-linker 0.13.0", "", true), None);
        assert_eq!(record("bpf-linker 0.9.0", r#""llvm-22""#, true), None);
        assert_eq!(recorded_llvm("{"), None);
    }
}
