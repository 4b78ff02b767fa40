//! `cargo xtask scenarios`: plays the scoreboard, and writes its table into the README.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{layout, markers, privilege, run, setup};

/// Break every server in every way, and compare what rstrace says with what was done
#[derive(Debug, Args)]
pub struct ScenarioArgs {
    /// Only what this watcher sees: host or gateway
    #[arg(long, value_parser = ["host", "gateway"])]
    vantage: Option<String>,
    /// One JSON object for each scenario and watcher, then the totals
    #[arg(long)]
    json: bool,
    /// Scenarios that play at once
    #[arg(long)]
    jobs: Option<u32>,
    /// Write the table into README.md
    #[arg(long, conflicts_with_all = ["json", "vantage", "filter"])]
    readme: bool,
    /// Only scenarios whose group/name contains this
    filter: Option<String>,
}

/// Builds what is needed and plays.
///
/// # Errors
/// When something cannot be set up, built or started; that a scenario is wrong is an exit code.
pub fn run(arguments: &ScenarioArgs) -> Result<ExitCode> {
    setup::run(true)?;
    run::build()?;
    build()?;
    let mut command = privilege::as_root_with(program(), &[("RSTRACE_BIN", layout::rstrace())])?;
    if let Some(vantage) = &arguments.vantage {
        command.args(["--vantage", vantage]);
    }
    if let Some(jobs) = arguments.jobs {
        command.args(["--jobs", &jobs.to_string()]);
    }
    if arguments.json || arguments.readme {
        command.arg("--json");
    }
    command.args(&arguments.filter);
    if !arguments.readme {
        let status = command.status().context("cannot run the scoreboard")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run the scoreboard")?;
    let table = table(&String::from_utf8_lossy(&output.stdout))?;
    write_readme(&table)?;
    std::io::stdout().write_all(table.as_bytes())?;
    Ok(if output.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compiles the scoreboard and the server that it breaks.
///
/// # Errors
/// When they do not compile.
pub fn build() -> Result<()> {
    let mut cargo = layout::cargo();
    cargo.args(["build", "--quiet", "--release", "--package", "rstrace-tests", "--bins"]);
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("the scoreboard does not compile, see above");
    }
    Ok(())
}

fn program() -> PathBuf {
    layout::rstrace().with_file_name("scoreboard")
}

/// One row a scenario, the two watchers side by side.
fn table(lines: &str) -> Result<String> {
    let mut rows: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut totals = Value::Null;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        if line["scenario"].is_null() {
            totals = line;
            continue;
        }
        let name = format!("{}/{}", text("group"), text("scenario"));
        let cell = if line["right"] == true {
            text("got")
        } else {
            format!("**{}**, not {}", text("got"), text("expected"))
        };
        match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, cells)) => drop(cells.insert(text("vantage"), cell)),
            None => rows.push((name, BTreeMap::from([(text("vantage"), cell)]))),
        }
    }
    rows.sort();
    let mut table = String::from("| scenario | both ends visible | the gateway alone |\n|---|---|---|\n");
    for (name, cells) in &rows {
        let cell = |vantage: &str| cells.get(vantage).map_or("", String::as_str);
        table.push_str(&format!("| {name} | {} | {} |\n", cell("host"), cell("gateway")));
    }
    let (right, wrong) = (&totals["right"], &totals["wrong"]);
    table.push_str(&format!("\n{} scenarios, {right} of their verdicts right, {wrong} wrong.\n", rows.len()));
    for key in ["by", "cause"] {
        let counts = totals[key].as_object().into_iter().flatten();
        let counts: Vec<_> = counts.map(|(name, count)| format!("{name} {count}")).collect();
        table.push_str(&format!("\nLines by `{key}`: {}.\n", counts.join(", ")));
    }
    Ok(table)
}

fn write_readme(table: &str) -> Result<()> {
    let path = layout::workspace().join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = markers::replaced(&text, "scoreboard", table)
        .with_context(|| format!("{} has no place for the scoreboard", path.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The stage of `xtask test`: this program again, so that its words go to a log.
#[must_use]
pub fn stage(xtask: &std::path::Path) -> Command {
    let mut command = Command::new(xtask);
    command.arg("scenarios").current_dir(layout::workspace());
    command
}

#[cfg(test)]
mod tests {
    use super::table;

    const LINES: &str = r#"{"group":"plain","scenario":"killed","vantage":"host","expected":"a","got":"a","right":true}
{"group":"plain","scenario":"killed","vantage":"gateway","expected":"b","got":"c","right":false}
{"right":1,"wrong":1,"by":{"upstream":2},"cause":{"a":1,"c":1}}"#;

    #[test]
    fn the_watchers_stand_side_by_side_and_what_is_wrong_is_bold() {
        let table = table(LINES).unwrap();
        assert!(table.contains("| plain/killed | a | **c**, not b |\n"), "{table}");
        assert!(table.contains("1 scenarios, 1 of their verdicts right, 1 wrong."), "{table}");
        assert!(table.contains("Lines by `cause`: a 1, c 1."), "{table}");
    }
}
