//! Servers and clients in Go: compiled once from `fixtures/servers/NAME/main.go`, with the standard library alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::process::run;

/// Compiling takes seconds and all of a processor, so one goes after the other.
static COMPILER: Mutex<()> = Mutex::new(());

/// The program of this name; it is compiled if its source is newer.
///
/// # Errors
/// When there is no such source, or the compiler refuses it.
pub fn program(name: &str) -> Result<PathBuf> {
    let _turn = COMPILER.lock().unwrap_or_else(PoisonError::into_inner);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = tests.join("fixtures/servers").join(name).join("main.go");
    let program = tests.join("../target/go").join(name);
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified());
    let written = changed(&source).with_context(|| source.display().to_string())?;
    if changed(&program).is_ok_and(|compiled| compiled >= written) {
        return Ok(program);
    }
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(&source);
    go.env("GO111MODULE", "off").env("CGO_ENABLED", "0");
    run(&mut go).with_context(|| format!("compile {}", source.display()))?;
    Ok(program)
}
