//! Debian's packages: which are missing, which are on offer, installing them.

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

use crate::{layout, privilege};

/// Installs the packages that are its arguments. Two things are kept from happening: a package that is in use
/// being removed for the sake of another, and services being started (nginx would take port 80).
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "$@" >/dev/null
"#;

pub fn is_here() -> bool {
    ["apt-get", "dpkg-query"].into_iter().all(|name| layout::find_program(name).is_some())
}

/// Those of `packages` that are not installed.
///
/// # Errors
/// When dpkg cannot be asked.
pub fn missing(packages: &[String]) -> Result<Vec<String>> {
    // Its exit code only says that it does not know one of them.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .context("cannot run dpkg-query")?;
    Ok(not_installed(&String::from_utf8_lossy(&output.stdout), packages))
}

fn not_installed(answer: &str, packages: &[String]) -> Vec<String> {
    let installed: Vec<_> = answer.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    packages.iter().filter(|package| !installed.contains(&package.as_str())).cloned().collect()
}

/// Whether the archives have this package.
///
/// # Errors
/// When apt cannot be asked.
pub fn offers(package: &str) -> Result<bool> {
    update()?;
    let output =
        Command::new("apt-cache").args(["policy", package]).output().context("cannot run apt-cache")?;
    Ok(has_candidate(&String::from_utf8_lossy(&output.stdout)))
}

fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

/// # Errors
/// When apt cannot install them; it has then said why.
pub fn install(packages: &[String]) -> Result<()> {
    update()?;
    let list = packages.join(" ");
    eprintln!("setup: apt-get install {list}");
    let mut command = privilege::as_root("sh")?;
    command.args(["-c", INSTALL, "sh"]).args(packages);
    let status = command.status().context("cannot run sh")?;
    if !status.success() {
        bail!("the packages could not be installed, see above: run `apt-get install {list}` as root");
    }
    Ok(())
}

/// A fresh machine has no lists at all, and old lists name versions that the archive has replaced.
fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    eprintln!("setup: apt-get update");
    let status = privilege::as_root("apt-get")?.args(["-qq", "update"]).stdout(std::io::stderr()).status();
    if !status.context("cannot run apt-get")?.success() {
        eprintln!("setup: apt-get update failed, going on with the lists that are here");
    }
    DONE.get_or_init(|| ());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{has_candidate, not_installed};

    #[test]
    fn a_package_that_was_removed_or_never_known_is_missing() {
        let packages = ["curl", "nginx-light", "nosuch"].map(str::to_owned);
        let answer = "curl installed\nnginx-light config-files\n";
        assert_eq!(not_installed(answer, &packages), ["nginx-light", "nosuch"]);
    }

    #[test]
    fn only_a_package_with_a_candidate_is_on_offer() {
        assert!(has_candidate("llvm-22-dev:\n  Installed: (none)\n  Candidate: 1:22.1.8-1~deb12u1\n"));
        assert!(!has_candidate("llvm-99-dev:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
