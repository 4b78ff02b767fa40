//! What must be said of each fault: `fixtures/scenarios.json`, whose oracle is the injected fault.
//! It holds no check; see `expect.rs`.

use anyhow::{Context, Result};
use serde_json::Value;

/// One entry of the fixtures.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    entry: Value,
}

/// The counter in which a scenario must show once.
#[derive(Debug, Clone)]
pub struct Metric {
    pub name: String,
    pub direction: String,
    pub phase: String,
}

impl Scenario {
    /// Reads the fixture of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &'static str) -> Result<Self> {
        let all: Value = serde_json::from_str(include_str!("../fixtures/scenarios.json"))?;
        let entry =
            all.get(name).cloned().with_context(|| format!("no scenario {name:?} in scenarios.json"))?;
        Ok(Self { name, entry })
    }

    /// The whole entry's value under `key`, null when it makes no claim.
    pub fn claim(&self, key: &str) -> &Value {
        &self.entry[key]
    }

    /// A claim that is text, empty when there is none.
    pub fn text(&self, key: &str) -> &str {
        self.entry[key].as_str().unwrap_or_default()
    }

    /// Whether the listed culprit is the server's process.
    pub fn blames_the_server(&self) -> bool {
        self.text("culprit") == "server"
    }

    /// The row of a reset or FIN counter that must say 1.
    pub fn metric(&self) -> Option<Metric> {
        let metric = self.entry.get("metric")?;
        let text = |key: &str| metric[key].as_str().unwrap_or_default().to_owned();
        Some(Metric { name: text("name"), direction: text("direction"), phase: text("phase") })
    }

    /// The outcomes of `rstrace_upstream_connections_total` of which one must say 1.
    pub fn outcomes(&self) -> Vec<&str> {
        texts(&self.entry["outcomes"])
    }

    /// The causes that the gateway may name when it sees itself alone.
    pub fn vantage_causes(&self) -> Vec<&str> {
        texts(&self.entry["vantage"]["causes"])
    }

    /// The causes that the gateway alone must list as not excluded.
    pub fn vantage_alternatives(&self) -> Vec<&str> {
        texts(&self.entry["vantage"]["alternatives"])
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
