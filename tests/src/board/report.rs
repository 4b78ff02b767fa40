//! From the page to the culprit: whoever comes after a case asks `rstrace report`, and finds what was told live.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::agent::binary;
use crate::process::run_within;

/// Asks for the report since then on the namespaces of `lines`, and looks for each of these verdicts in it.
///
/// # Errors
/// When there is no report, or a verdict or its culprit is not in it.
pub fn tells(socket: &Path, since: &str, lines: &[Value]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(binary()?);
    command.args(["report", "--json", "--since", since, "--socket"]).arg(socket);
    for line in lines {
        command.arg("--netns").arg(line["netns"].to_string());
    }
    let ended = run_within(&mut command, Duration::from_secs(20))?;
    ensure!(ended.code == Some(0), "rstrace report: {ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).context("rstrace report --json")?;
    let groups = report["groups"].as_array().context("a report without groups")?;
    for line in lines {
        ensure!(groups.iter().any(|group| is_of(group, line)), "the report does not tell {line}\n{report:#}");
    }
    Ok(())
}

fn is_of(group: &Value, line: &Value) -> bool {
    let same = ["upstream", "listener", "scope", "by", "cause"].iter().all(|key| group[key] == line[key]);
    let culprits = group["culprits"].as_array().map_or(&[][..], Vec::as_slice);
    let culprit = &line["culprit"];
    same && (culprit.is_null()
        || culprits.iter().any(|c| {
            let pids = c["pids"].as_array().map_or(&[][..], Vec::as_slice);
            c["comm"] == culprit["comm"] && pids.contains(&culprit["pid"])
        }))
}
