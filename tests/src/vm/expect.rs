//! Assertions on a verdict about a connection of this process. Each names the key that is wrong.

use anyhow::{Result, ensure};
use rstrace_tests::scenario::Scenario;
use rstrace_tests::server;
use serde_json::{Value, json};

use crate::fault::Cast;

/// Checks a line against the fixture's claims; the gateway of the fixtures is this process here.
pub fn as_the_fixture_says(line: &Value, scenario: &Scenario, cast: &Cast) -> Result<()> {
    for key in ["by", "cause", "impact", "confidence", "how"] {
        let claim = scenario.claim(key);
        ensure!(claim.is_null() || line[key] == *claim, "{key} is {}, not {claim}", line[key]);
    }
    ours(line)?;
    let culprit = &line["culprit"];
    if scenario.text("culprit") == "nobody" {
        ensure!(culprit.is_null(), "culprit is {culprit}, and nobody ever listened");
    }
    if scenario.blames_the_server() {
        ensure!(
            culprit["pid"] == json!(cast.server()),
            "culprit.pid is {}, not {:?}",
            culprit["pid"],
            cast.server()
        );
        ensure!(culprit["comm"] == server::COMM, "culprit.comm is {}", culprit["comm"]);
        let exit = scenario.claim("exit");
        ensure!(
            exit.is_null() == culprit["exit"].is_null(),
            "culprit.exit is {}, not {exit}",
            culprit["exit"]
        );
        for (key, claim) in exit.as_object().into_iter().flatten() {
            ensure!(culprit["exit"][key] == *claim, "culprit.exit is {}, not {exit}", culprit["exit"]);
        }
        let killer = &culprit["killed_by"];
        ensure!(killer["pid"] == json!(cast.killer), "killed_by is {killer}, not {:?}", cast.killer);
    }
    Ok(())
}

/// Checks what can be said of a connection that the agent found open and never saw being read: who
/// holds it and who ended it, but not for sure that a request was lost.
pub fn of_an_older_connection(line: &Value, cast: &Cast) -> Result<()> {
    ours(line)?;
    ensure!(line["by"] == "upstream", "by is {}", line["by"]);
    ensure!(line["how"] == "fin_received", "how is {}", line["how"]);
    let impact = line["impact"].as_str().unwrap_or_default();
    ensure!(["unknown", "request_lost"].contains(&impact), "impact is {impact}");
    let culprit = &line["culprit"]["pid"];
    ensure!(culprit.is_null() || *culprit == json!(cast.server()), "culprit.pid is {culprit}");
    Ok(())
}

/// The line is the client's, whose socket is this process's own.
fn ours(line: &Value) -> Result<()> {
    ensure!(line["schema"] == 1 && line["role"] == "client", "not a client's verdict of schema 1");
    let owner = &line["owner"];
    ensure!(owner["pid"] == std::process::id() && owner["comm"] == "init", "owner is {owner}");
    Ok(())
}
