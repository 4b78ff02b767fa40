//! Assertions on a verdict: against its fixture, as the whole host sees it and as the gateway alone.
//! Each names the key that is wrong; the scene adds the line and the logs.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::server;

/// Every key of a verdict, which is there even when unknown.
const KEYS: [&str; 24] = [
    "schema",
    "kind",
    "time",
    "host",
    "netns",
    "scope",
    "role",
    "upstream",
    "listener",
    "local",
    "peer",
    "by",
    "cause",
    "impact",
    "confidence",
    "alternatives",
    "how",
    "rst_reason",
    "owner",
    "culprit",
    "connection",
    "join",
    "evidence",
    "summary",
];

/// The processes that a verdict may name.
#[derive(Debug, Clone, Default)]
pub struct Cast<'a> {
    pub workers: &'a [u32],
    pub server: Option<u32>,
    pub killer: Option<u32>,
}

/// Checks a line as the agent of the whole host must write it.
///
/// # Errors
/// With the first key that is wrong.
pub fn as_the_host_sees_it(line: &Value, scenario: &Scenario, upstream: &str, cast: &Cast<'_>) -> Result<()> {
    common(line, scenario, upstream, cast)?;
    for key in ["by", "cause", "confidence", "how"] {
        let claim = scenario.claim(key);
        ensure!(claim.is_null() || line[key] == *claim, "{key} is {}, not {claim}", line[key]);
    }
    if scenario.claim("confidence") == "proven" {
        ensure!(
            line["alternatives"] == json!([]),
            "proven, and yet alternatives are {}",
            line["alternatives"]
        );
    }
    culprit(&line["culprit"], scenario, cast).context("culprit")
}

/// Checks a line as the gateway must write it when it sees nothing but itself.
///
/// # Errors
/// With the first key that is wrong.
pub fn as_the_gateway_sees_it(
    line: &Value,
    scenario: &Scenario,
    upstream: &str,
    cast: &Cast<'_>,
) -> Result<()> {
    common(line, scenario, upstream, cast)?;
    ensure!(line["by"] == *scenario.claim("by"), "by is {}, not {}", line["by"], scenario.claim("by"));
    let causes = scenario.vantage_causes();
    let cause = line["cause"].as_str().unwrap_or_default();
    ensure!(causes.contains(&cause), "cause is {cause}, not one of {causes:?}");
    let alternatives = line["alternatives"].as_array().context("alternatives is no list")?;
    for alternative in scenario.vantage_alternatives() {
        let listed = alternatives.iter().any(|listed| listed == alternative);
        ensure!(listed || cause == alternative, "{alternative} is not excluded, and not listed");
    }
    // Whatever is written, it must not contradict what was done.
    let truth = scenario.claim("cause");
    ensure!(
        cause == truth || alternatives.contains(truth),
        "neither the cause nor an alternative is {truth}"
    );
    ensure!(line["confidence"] == "inferred", "confidence is {}", line["confidence"]);
    ensure!(line["culprit"].is_null(), "culprit is {}, which no gateway can know", line["culprit"]);
    Ok(())
}

fn common(line: &Value, scenario: &Scenario, upstream: &str, cast: &Cast<'_>) -> Result<()> {
    let keys = line.as_object().context("no object")?;
    for key in KEYS {
        ensure!(keys.contains_key(key), "no key {key}");
    }
    ensure!(line["schema"] == 1 && line["kind"] == "verdict", "no verdict of schema 1");
    ensure!(line["role"] == "client", "role is {}", line["role"]);
    ensure!(line["upstream"] == upstream, "upstream is {}, not {upstream}", line["upstream"]);
    ensure!(line["impact"] == *scenario.claim("impact"), "impact is {}", line["impact"]);
    ensure!(line["owner"]["comm"] == "nginx", "owner.comm is {}", line["owner"]["comm"]);
    let owner = pid(&line["owner"]);
    ensure!(
        owner.is_some_and(|pid| cast.workers.contains(&pid)),
        "owner.pid is {owner:?}, not of {:?}",
        cast.workers
    );
    let summary = line["summary"].as_str().unwrap_or_default();
    ensure!(!summary.is_empty() && !summary.contains('\n'), "summary is {summary:?}");
    let evidence = line["evidence"].as_array().is_some_and(|evidence| !evidence.is_empty());
    ensure!(evidence, "a verdict without evidence");
    Ok(())
}

fn culprit(culprit: &Value, scenario: &Scenario, cast: &Cast<'_>) -> Result<()> {
    if scenario.text("culprit") == "nobody" {
        ensure!(culprit.is_null(), "{culprit} is blamed, and nobody ever listened");
    }
    if !scenario.blames_the_server() {
        return Ok(());
    }
    ensure!(pid(culprit) == cast.server, "pid is {:?}, not the server's {:?}", pid(culprit), cast.server);
    ensure!(culprit["comm"] == server::COMM, "comm is {}", culprit["comm"]);
    let exit = scenario.claim("exit");
    ensure!(exit.is_null() == culprit["exit"].is_null(), "exit is {}, not {exit}", culprit["exit"]);
    for (key, claim) in exit.as_object().into_iter().flatten() {
        ensure!(culprit["exit"][key] == *claim, "exit is {}, not {exit}", culprit["exit"]);
    }
    let killer = &culprit["killed_by"];
    if scenario.claim("killer") == true {
        ensure!(pid(killer) == cast.killer && killer["comm"] == "sh", "killed_by is {killer}");
    } else {
        ensure!(killer.is_null(), "killed_by is {killer}");
    }
    Ok(())
}

fn pid(process: &Value) -> Option<u32> {
    process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Cast, Scenario, as_the_gateway_sees_it, as_the_host_sees_it};

    fn killed_line() -> Value {
        json!({
            "schema": 1, "kind": "verdict", "time": "2026-11-20T12:03:07.412345678Z", "host": "gw-1", "netns": 4,
            "scope": "host", "role": "client", "upstream": "10.0.3.7:9000", "listener": null,
            "local": "10.0.1.2:43210", "peer": "10.0.3.7:9000", "by": "upstream", "cause": "process_killed",
            "impact": "request_lost", "confidence": "proven", "alternatives": [], "how": "fin_received",
            "rst_reason": null, "owner": {"pid": 812, "comm": "nginx", "cgroup": "/", "container": null, "started": null},
            "culprit": {
                "pid": 42, "comm": "fault_server", "exit": {"code": null, "signal": "SIGKILL", "oom": false},
                "killed_by": {"pid": 43, "comm": "sh"}
            },
            "connection": {}, "join": {}, "evidence": ["it was"], "summary": "nginx[812] lost a request"
        })
    }

    fn host_accepts(line: &Value) -> bool {
        let cast = Cast { workers: &[811, 812], server: Some(42), killer: Some(43) };
        let scenario = Scenario::named("process_killed");
        scenario.is_ok_and(|scenario| as_the_host_sees_it(line, &scenario, "10.0.3.7:9000", &cast).is_ok())
    }

    fn gateway_accepts(line: &Value) -> bool {
        let cast = Cast { workers: &[812], server: Some(42), killer: None };
        let scenario = Scenario::named("process_killed");
        scenario.is_ok_and(|scenario| as_the_gateway_sees_it(line, &scenario, "10.0.3.7:9000", &cast).is_ok())
    }

    #[test]
    fn a_right_line_is_accepted_and_each_wrong_key_refused() {
        assert!(host_accepts(&killed_line()));
        let wrong = [
            ("/by", json!("gateway")),
            ("/cause", json!("process_crashed")),
            ("/impact", json!("none")),
            ("/confidence", json!("inferred")),
            ("/alternatives", json!(["oom_killed"])),
            ("/how", json!("rst_received")),
            ("/role", json!("server")),
            ("/upstream", json!("10.0.3.7:9001")),
            ("/owner/pid", json!(42)),
            ("/owner/comm", json!("curl")),
            ("/culprit", json!(null)),
            ("/culprit/pid", json!(812)),
            ("/culprit/exit/signal", json!("SIGTERM")),
            ("/culprit/killed_by", json!(null)),
            ("/culprit/killed_by/pid", json!(42)),
            ("/evidence", json!([])),
            ("/summary", json!("")),
        ];
        for (path, value) in wrong {
            let mut line = killed_line();
            if let Some(place) = line.pointer_mut(path) {
                *place = value;
            }
            assert_ne!(line, killed_line(), "{path} is no key");
            assert!(!host_accepts(&line), "a wrong {path} was accepted");
        }
    }

    #[test]
    fn a_gateway_may_not_claim_what_it_cannot_see() {
        assert!(!gateway_accepts(&killed_line()));
        let mut line = killed_line();
        line["cause"] = json!("closed_without_response");
        line["confidence"] = json!("inferred");
        line["culprit"] = json!(null);
        assert!(!gateway_accepts(&line), "no alternatives");
        line["alternatives"] = json!(["process_crashed", "process_exited", "process_killed", "oom_killed"]);
        assert!(gateway_accepts(&line));
    }
}
