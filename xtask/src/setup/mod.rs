//! `cargo xtask setup`: installs what is missing, and only that.
//!
//! It keeps no record of what it has done: every run looks whether the things are there, which takes well under
//! a second, so whatever was removed or upgraded behind its back is noticed.

mod debian;
mod linker;
mod python;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::layout::{self, BPF_TARGET};
use crate::qemu;
use crate::toolchain::{CoreSource, DEBIAN_RUSTC};

/// What the tests on real servers and the virtual machines run, by Debian's names.
const TEST_PACKAGES: [&str; 2] =
    [include_str!("../../../tests/packages.txt"), include_str!("../vm/packages.txt")];

/// What only the bench runs besides.
const BENCH_PACKAGES: &str = include_str!("../../../tests/bench-packages.txt");

/// Debian's compiler with `core` for the BPF targets.
const CORE_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// Makes sure that the build, and with `test` the tests too, find what they need.
///
/// # Errors
/// When something is missing and cannot be installed from here; the error names the command that helps.
pub fn run(test: bool) -> Result<()> {
    // Whoever brings the object along needs nothing to build it.
    if env::var_os("RSTRACE_BPF_OBJECT").is_none() {
        linker::ensure(&bpf_compiler()?)?;
    }
    if test {
        for_lint()?;
        ensure_packages(&listed(&TEST_PACKAGES))?;
        ensure_kubectl()?;
        python::ensure()?;
        qemu::ensure()?;
    }
    Ok(())
}

/// Makes sure of what formats and lints the host's code and the kernel programs.
///
/// # Errors
/// When something is missing and cannot be installed from here.
pub fn for_lint() -> Result<()> {
    ensure_components()?;
    // Debian's compiler lints the kernel programs with its own clippy: rustup's cannot read its `core`.
    if core_source() == Some(CoreSource::Debian) {
        ensure_packages(&["rust-web-clippy".to_owned()])?;
    }
    Ok(())
}

/// Makes sure of what the agent is measured with and against; what only other tests need is left out.
///
/// # Errors
/// When something is missing and cannot be installed from here.
pub fn for_bench() -> Result<()> {
    ensure_packages(&listed(&[BENCH_PACKAGES]))
}

/// Where `core` for the kernel programs comes from now, if from anywhere.
pub fn core_source() -> Option<CoreSource> {
    CoreSource::find(Path::new("rustc"), BPF_TARGET)
}

/// The compiler that will build the kernel programs; installs one if there is none.
fn bpf_compiler() -> Result<PathBuf> {
    if let Some(name) = env::var_os("RSTRACE_BPF_TOOLCHAIN") {
        let sysroot = crate::toolchain::sysroot(Command::new("rustup").arg("run").arg(&name).arg("rustc"));
        let sysroot = sysroot
            .with_context(|| format!("RSTRACE_BPF_TOOLCHAIN names no toolchain: {}", name.display()))?;
        return Ok(sysroot.join("bin/rustc"));
    }
    if core_source().is_none() {
        install_core()?;
    }
    match core_source() {
        Some(CoreSource::RustSrc(sysroot)) => Ok(sysroot.join("bin/rustc")),
        Some(CoreSource::Debian) => Ok(PathBuf::from(DEBIAN_RUSTC)),
        None => bail!("the BPF target's core library is still missing: run `rustup component add rust-src`"),
    }
}

fn install_core() -> Result<()> {
    if debian::is_here() && debian::offers(CORE_PACKAGES[1])? {
        return debian::install(&CORE_PACKAGES.map(str::to_owned));
    }
    add_components(&["rust-src"])
}

/// rustup's minimal profile leaves these out.
fn ensure_components() -> Result<()> {
    let missing: Vec<_> =
        [("fmt", "rustfmt"), ("clippy", "clippy")].into_iter().filter(|(verb, _)| !cargo_has(verb)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    add_components(&missing.iter().map(|(_, component)| *component).collect::<Vec<_>>())
}

fn cargo_has(verb: &str) -> bool {
    layout::cargo().args([verb, "--version"]).output().is_ok_and(|output| output.status.success())
}

fn add_components(components: &[&str]) -> Result<()> {
    let command = format!("rustup component add {}", components.join(" "));
    eprintln!("setup: {command}");
    let status = Command::new("rustup").args(["component", "add"]).args(components).status();
    if !status.is_ok_and(|status| status.success()) {
        bail!("the Rust toolchain lacks {}: run `{command}`", components.join(" and "));
    }
    Ok(())
}

/// The packages that these lists name, one a line, each once.
fn listed(lists: &[&str]) -> Vec<String> {
    let lines = lists.iter().flat_map(|list| list.lines()).map(str::trim);
    let mut packages: Vec<_> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn ensure_packages(packages: &[String]) -> Result<()> {
    if debian::is_here() {
        let missing = debian::missing(packages)?;
        return if missing.is_empty() { Ok(()) } else { debian::install(&missing) };
    }
    let missing: Vec<_> = packages
        .iter()
        .filter_map(|package| program_of(package))
        .filter(|name| layout::find_program(name).is_none())
        .collect();
    if !missing.is_empty() {
        bail!(
            "the tests need programs that are missing: install {} with this system's package manager",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Debian's own package is taken only where there is no kubectl: it is often too old, and in the way of another.
fn ensure_kubectl() -> Result<()> {
    if layout::find_program("kubectl").is_some() {
        return Ok(());
    }
    ensure_packages(&["kubernetes-client".to_owned()])
}

/// The program by which a system without Debian's packages is judged; a library has none.
fn program_of(package: &str) -> Option<&str> {
    Some(match package {
        "nginx-light" => "nginx",
        "iproute2" => "ip",
        "nftables" => "nft",
        "util-linux" => "unshare",
        "coreutils" => "timeout",
        "procps" => "ps",
        "xz-utils" => "xz",
        "dpkg" => "dpkg-deb",
        "kubernetes-client" => "kubectl",
        "seccomp" => "scmp_sys_resolver",
        "systemd" => "systemd-analyze",
        "ca-certificates" | "libc6-dev" | "python3-venv" => return None,
        package => package,
    })
}

#[cfg(test)]
mod tests {
    use super::{BENCH_PACKAGES, TEST_PACKAGES, listed};

    #[test]
    fn a_package_that_two_lists_name_is_installed_once() {
        assert_eq!(listed(&["curl\nxz-utils\n\n", "# why\ncurl\n"]), ["curl", "xz-utils"]);
    }

    #[test]
    fn every_listed_package_is_one_word() {
        let [board, vm] = TEST_PACKAGES;
        let packages = listed(&[board, vm, BENCH_PACKAGES]);
        assert!(packages.contains(&"nginx-light".to_owned()), "{packages:?}");
        assert!(packages.iter().all(|package| !package.contains(char::is_whitespace)), "{packages:?}");
    }
}
