//! Python's packages that tests run: in an environment of this checkout's own, in the versions that
//! `tests/requirements.txt` pins.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::layout;

const REQUIREMENTS: &str = include_str!("../../../tests/requirements.txt");

/// The environment; its programs are in `bin`.
pub fn environment() -> PathBuf {
    layout::tools().join("python")
}

/// Makes sure that the environment holds what is pinned, and nothing from before.
///
/// # Errors
/// When Python's package index cannot be reached, or has not got one of them.
pub fn ensure() -> Result<()> {
    let environment = environment();
    // Written last, so that a set-up that was interrupted begins anew.
    let installed = environment.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(());
    }
    eprintln!("setup: python3 -m venv {}", environment.display());
    done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    eprintln!("setup: pip install --requirement tests/requirements.txt");
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    done(pip.arg(layout::workspace().join("tests/requirements.txt")))?;
    fs::write(&installed, REQUIREMENTS).with_context(|| format!("cannot write {}", installed.display()))
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("the tests' Python packages could not be installed, see above: {command:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::REQUIREMENTS;

    #[test]
    fn every_version_is_pinned() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for line in lines {
            assert!(line.contains("=="), "{line}");
        }
    }
}
