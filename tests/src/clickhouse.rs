//! ClickHouse's embedded engine (chdb), in the Python environment that `./dev setup --test` makes, with the tables and
//! queries of `deploy/clickhouse`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Runs `fixtures/clickhouse/fleet.py` and gives the lines that it prints.
///
/// # Errors
/// When a statement fails, or the environment is missing.
pub fn fleet(arguments: &[&str], input: &str) -> Result<Vec<Value>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = package.join("../target/tools/python/bin/python");
    ensure!(python.exists(), "{} is missing: run ./dev setup --test", python.display());
    let mut command = Command::new(python);
    command.arg(package.join("fixtures/clickhouse/fleet.py")).arg(package.join("../deploy/clickhouse"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start Python")?;
    child.stdin.take().context("its stdin is piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}
