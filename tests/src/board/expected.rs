//! What must be said of a case: one entry of `fixtures/board/GROUP.json`, and whether the lines say it.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// One entry. Its oracle is the fault that was injected and the proxy's own log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// What is done, in words.
    pub fault: String,
    /// Texts that have to be in the gateway's own log, so that the fault is known to have come through.
    #[serde(default)]
    pub log: Vec<String>,
    /// The lines that the agent of the whole host writes, in any order; none for what harms nobody.
    pub host: Vec<Line>,
    /// The lines of the gateway alone; without it the same as the host's, with nobody of another namespace blamed.
    pub gateway: Option<Vec<Line>>,
}

/// One line. What it does not name is not looked at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub by: String,
    pub cause: String,
    pub impact: String,
    pub confidence: Option<String>,
    pub how: Option<String>,
    /// `unix:/path`, `dns:name`; otherwise the address of the upstream under test is not checked.
    pub upstream: Option<String>,
    /// Causes that must be among the alternatives.
    #[serde(default)]
    pub alternatives: Vec<String>,
    /// Keys of `culprit` and their values; `killed_by` by its comm. `false`: there must be none.
    pub culprit: Option<Value>,
    /// Texts that have to be in the summary.
    #[serde(default)]
    pub summary: Vec<String>,
    /// How many such lines there are; 1 if it is not said.
    pub count: Option<usize>,
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vantage {
    Host,
    Gateway,
}

impl Vantage {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Gateway => "gateway",
        }
    }
}

impl Expected {
    /// The lines that this watcher has to write, each as often as it has to come.
    pub fn lines(&self, vantage: Vantage) -> Vec<Line> {
        let lines = match (vantage, &self.gateway) {
            (Vantage::Gateway, Some(lines)) => lines,
            _ => &self.host,
        };
        let whole = lines.iter().flat_map(|line| std::iter::repeat_n(line.clone(), line.count.unwrap_or(1)));
        let inherited = vantage == Vantage::Gateway && self.gateway.is_none();
        whole
            .map(|line| if inherited { Line { culprit: None, confidence: None, ..line } } else { line })
            .collect()
    }

    /// Whether the lines are all that this watcher has to say, and nothing else.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self, vantage: Vantage, lines: &[Value]) -> Result<()> {
        let wanted = self.lines(vantage);
        ensure!(lines.len() == wanted.len(), "{} lines in place of {}", lines.len(), wanted.len());
        let mut left: Vec<&Value> = lines.iter().collect();
        for line in &wanted {
            // One that is right in all that it names, before one of the same cause that is not.
            let right = left.iter().position(|got| line.check(got).is_ok());
            let found = right.or_else(|| left.iter().position(|got| line.is(got)));
            let Some(found) = found else {
                // The first that is left is the one that it most likely should have been.
                line.check(left[0]).with_context(|| format!("{} {}", line.by, line.cause))?;
                bail!("no line says {} {}", line.by, line.cause);
            };
            let got = left.remove(found);
            line.check(got).with_context(|| format!("{} {}", line.by, line.cause))?;
            whole(got)?;
            if vantage == Vantage::Gateway && line.culprit.is_none() {
                ensure!(
                    got["culprit"].is_null(),
                    "the gateway blames {}, whom it cannot see",
                    got["culprit"]
                );
            }
        }
        Ok(())
    }
}

impl Line {
    fn is(&self, line: &Value) -> bool {
        line["by"] == *self.by && line["cause"] == *self.cause && line["impact"] == *self.impact
    }

    fn check(&self, line: &Value) -> Result<()> {
        for (key, wanted) in [("by", &self.by), ("cause", &self.cause), ("impact", &self.impact)] {
            ensure!(line[key] == **wanted, "{key} is {}, not {wanted}", line[key]);
        }
        for (key, wanted) in
            [("confidence", &self.confidence), ("how", &self.how), ("upstream", &self.upstream)]
        {
            let right = wanted.as_ref().is_none_or(|wanted| line[key] == **wanted);
            ensure!(right, "{key} is {}, not {wanted:?}", line[key]);
        }
        let alternatives = line["alternatives"].as_array().context("alternatives is no list")?;
        for wanted in &self.alternatives {
            let listed = alternatives.iter().any(|cause| cause == wanted.as_str());
            ensure!(listed, "{wanted} is not excluded, and not listed in {alternatives:?}");
        }
        if self.confidence.as_deref() == Some("proven") {
            ensure!(alternatives.is_empty(), "proven, and yet alternatives are {alternatives:?}");
        }
        let summary = line["summary"].as_str().unwrap_or_default();
        // Timers of these machines fire some milliseconds early or late, and the words tell to the millisecond.
        let rounded = to_tenths(summary);
        for text in &self.summary {
            let said = summary.contains(text) || rounded.contains(text);
            ensure!(said, "{text:?} is not in the summary {summary:?}");
        }
        self.culprit.as_ref().map_or(Ok(()), |wanted| culprit(&line["culprit"], wanted)).context("culprit")
    }
}

/// `1.992 s` as `2.0 s`.
fn to_tenths(summary: &str) -> String {
    let rounded = |word: &str| match (word.split_once('.'), word.parse::<f64>()) {
        (Some((_, decimals)), Ok(seconds)) if decimals.len() == 3 => format!("{seconds:.1}"),
        _ => word.to_owned(),
    };
    summary.split(' ').map(rounded).collect::<Vec<_>>().join(" ")
}

fn culprit(got: &Value, wanted: &Value) -> Result<()> {
    let Some(wanted) = wanted.as_object() else {
        ensure!(got.is_null(), "{got} is blamed, and there must be none");
        return Ok(());
    };
    for (key, value) in wanted {
        let found = match key.as_str() {
            "killed_by" if !got[key].is_null() => &got[key]["comm"],
            _ => &got[key],
        };
        match value.as_object() {
            Some(parts) => {
                for (part, value) in parts {
                    ensure!(found[part] == *value, "{key}.{part} is {}, not {value}", found[part]);
                }
            }
            None => ensure!(found == value, "{key} is {found}, not {value}"),
        }
    }
    Ok(())
}

/// What holds for every line.
fn whole(line: &Value) -> Result<()> {
    let summary = line["summary"].as_str().unwrap_or_default();
    ensure!(!summary.is_empty() && !summary.contains('\n'), "summary is {summary:?}");
    ensure!(line["evidence"].as_array().is_some_and(|facts| !facts.is_empty()), "a verdict without evidence");
    let inferred = line["confidence"] == "inferred";
    let alternatives = line["alternatives"].as_array().is_some_and(|list| !list.is_empty());
    ensure!(inferred || !alternatives, "proven, and yet with alternatives");
    Ok(())
}

/// `by cause`, or `quiet`; several with a comma, repeated ones counted.
pub fn brief<'a>(lines: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut counted: Vec<((&str, &str), usize)> = Vec::new();
    for line in lines {
        match counted.iter_mut().find(|(known, _)| *known == line) {
            Some((_, count)) => *count += 1,
            None => counted.push((line, 1)),
        }
    }
    if counted.is_empty() {
        return "quiet".to_owned();
    }
    let one = |((by, cause), count): &((&str, &str), usize)| match count {
        1 => format!("{by} {cause}"),
        _ => format!("{count}× {by} {cause}"),
    };
    counted.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Expected, Vantage, to_tenths};

    fn expected() -> serde_json::Result<Expected> {
        serde_json::from_value(json!({
            "fault": "a kill", "log": [],
            "host": [{"by": "upstream", "cause": "process_killed", "impact": "request_lost", "confidence": "proven",
                      "culprit": {"comm": "api", "exit": {"signal": "SIGKILL"}, "killed_by": "sh"}}],
            "gateway": [{"by": "upstream", "cause": "closed_without_response", "impact": "request_lost",
                         "alternatives": ["process_killed"]}]
        }))
    }

    fn line() -> Value {
        json!({
            "by": "upstream", "cause": "process_killed", "impact": "request_lost", "confidence": "proven",
            "alternatives": [], "how": "fin_received", "upstream": "10.0.0.1:80", "summary": "killed",
            "evidence": ["it was"],
            "culprit": {"pid": 1, "comm": "api", "exit": {"code": null, "signal": "SIGKILL", "oom": false},
                        "killed_by": {"pid": 2, "comm": "sh"}}
        })
    }

    fn accepted(vantage: Vantage, lines: &[Value]) -> bool {
        expected().is_ok_and(|expected| expected.check(vantage, lines).is_ok())
    }

    #[test]
    fn an_age_is_compared_to_the_tenth_of_a_second() {
        assert_eq!(
            to_tenths("closed 1.992 s after 10.0.0.1:80, in 499 ms"),
            "closed 2.0 s after 10.0.0.1:80, in 499 ms"
        );
    }

    #[test]
    fn a_right_line_is_accepted_and_each_wrong_one_refused() {
        assert!(accepted(Vantage::Host, &[line()]));
        assert!(!accepted(Vantage::Host, &[]));
        assert!(!accepted(Vantage::Host, &[line(), line()]));
        let wrong = [
            ("/by", json!("gateway")),
            ("/cause", json!("oom_killed")),
            ("/impact", json!("none")),
            ("/confidence", json!("inferred")),
            ("/alternatives", json!(["oom_killed"])),
            ("/culprit/comm", json!("nginx")),
            ("/culprit/exit/signal", json!("SIGTERM")),
            ("/culprit/killed_by", json!(null)),
            ("/culprit", json!(null)),
            ("/summary", json!("")),
            ("/evidence", json!([])),
        ];
        for (path, value) in wrong {
            let mut line = line();
            if let Some(place) = line.pointer_mut(path) {
                *place = value;
            }
            assert!(!accepted(Vantage::Host, &[line]), "a wrong {path} was accepted");
        }
    }

    #[test]
    fn the_gateway_may_not_blame_whom_it_cannot_see() {
        let mut alone = line();
        alone["cause"] = json!("closed_without_response");
        alone["confidence"] = json!("inferred");
        alone["alternatives"] = json!(["process_killed"]);
        assert!(!accepted(Vantage::Gateway, &[alone.clone()]));
        alone["culprit"] = Value::Null;
        assert!(accepted(Vantage::Gateway, &[alone.clone()]));
        alone["alternatives"] = json!(["oom_killed"]);
        assert!(!accepted(Vantage::Gateway, &[alone]));
    }
}
