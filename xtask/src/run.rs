//! `cargo xtask build` and `cargo xtask run`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{layout, privilege, setup};

/// The commands of rstrace that load programs into the kernel, or ask an agent that only root may ask.
const PRIVILEGED: [&str; 7] = ["agent", "watch", "top", "report", "record", "doctor", "demo"];

/// Builds the release agent, after the set-up that this needs, and says where it is.
///
/// # Errors
/// When something cannot be set up, or the build fails; cargo has then said why.
pub fn build() -> Result<PathBuf> {
    setup::run(false)?;
    let status = build_command().status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the build failed, see above");
    }
    Ok(layout::rstrace())
}

pub fn build_command() -> Command {
    let mut cargo = layout::cargo();
    cargo.args(["build", "--release", "--package", "tracer-agent", "--bin", "rstrace"]);
    cargo
}

/// Becomes rstrace: its signals, terminal and exit code are then its own.
///
/// # Errors
/// When it cannot be built or started.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let rstrace = build()?;
    let live_agent = [OsString::from("agent"), OsString::from("--watch")];
    let arguments = if arguments.is_empty() { &live_agent } else { arguments };
    let mut command =
        if needs_root(arguments) { privilege::as_root(&rstrace)? } else { Command::new(&rstrace) };
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", rstrace.display()))
}

fn needs_root(arguments: &[OsString]) -> bool {
    let asks_for_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    let command = arguments.iter().find(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
    !asks_for_help && command.is_some_and(|command| PRIVILEGED.iter().any(|name| command == name))
}

#[cfg(test)]
mod tests {
    use super::needs_root;

    fn check(arguments: &[&str], expected: bool) {
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        assert_eq!(needs_root(&arguments), expected, "{arguments:?}");
    }

    #[test]
    fn root_is_asked_for_only_where_programs_are_loaded() {
        check(&["agent", "--watch"], true);
        check(&["demo"], true);
        check(&["replay", "agent"], false);
        check(&["--version"], false);
        check(&["watch", "--help"], false);
    }
}
