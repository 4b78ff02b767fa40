//! Running single commands as root.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::layout;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that will run as root. The variables that rstrace reads go along: sudo would drop them.
///
/// # Errors
/// When the user is not root and there is no sudo.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if layout::find_program("sudo").is_none() {
        bail!(
            "{} needs root and there is no sudo here: run this command as root",
            program.as_ref().display()
        );
    }
    let mut command = Command::new("sudo");
    command.arg("env").args(env::vars_os().filter(|(name, _)| is_ours(name)).map(assignment)).arg(program);
    Ok(command)
}

/// The same with further variables, which only this command gets.
///
/// # Errors
/// When the user is not root and there is no sudo.
pub fn as_root_with(program: impl AsRef<OsStr>, variables: &[(&str, PathBuf)]) -> Result<Command> {
    let mut command = as_root("env")?;
    for (name, value) in variables {
        command.arg(assignment((name.into(), value.into())));
    }
    command.arg(program);
    Ok(command)
}

fn is_ours(name: &OsStr) -> bool {
    name == "RUST_LOG"
        || name == "NO_COLOR"
        || name == "DEBIAN_FRONTEND"
        || name.as_encoded_bytes().starts_with(b"RSTRACE_")
}

fn assignment((mut name, value): (OsString, OsString)) -> OsString {
    name.push("=");
    name.push(value);
    name
}
