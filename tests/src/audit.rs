//! Asks a running agent for its audit: what the kernel counted itself against what the agent saw.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::netns::Namespace;
use crate::process::{Guarded, poll};

/// The audit of one network namespace.
#[derive(Debug, Clone)]
pub struct Audited(Value);

/// The whole audit.
///
/// # Errors
/// When the agent does not answer, or not with an audit.
pub fn ask(socket: &Path) -> Result<Value> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"{\"schema\":1,\"want\":\"audit\"}\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the audit")?;
    let audit: Value = serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer:?}"))?;
    ensure!(audit["kind"] == "audit", "{audit}");
    Ok(audit)
}

/// What is compared in a namespace; None if the agent has not met it.
///
/// # Errors
/// As [`ask`].
pub fn of(socket: &Path, netns: u64) -> Result<Option<Audited>> {
    let audit = ask(socket)?;
    let namespaces = audit["namespaces"].as_array().context("no namespaces")?;
    let own = |namespace: &&Value| namespace["netns"] == netns && namespace["has_ended"] == false;
    Ok(namespaces.iter().find(own).map(|namespace| Audited(namespace.clone())))
}

/// Gaps that nothing explains, in the namespaces of which `owns` is true, as text. What happens while the counters are
/// read may look like a gap, so they are read again for a while.
///
/// # Errors
/// As [`ask`].
pub fn unexplained(socket: &Path, owns: &dyn Fn(u64) -> bool) -> Result<Vec<String>> {
    let mut last = Ok(Vec::new());
    // Whether they vanish in time is the answer, not a failure.
    let _ = poll("no gap", Duration::from_secs(2), || {
        last = gaps(socket, owns);
        last.as_ref().map_or(true, Vec::is_empty).then_some(())
    });
    last
}

fn gaps(socket: &Path, owns: &dyn Fn(u64) -> bool) -> Result<Vec<String>> {
    let audit = ask(socket)?;
    let namespaces = audit["namespaces"].as_array().context("no namespaces")?;
    let own =
        |namespace: &&Value| namespace["has_ended"] == false && namespace["netns"].as_u64().is_some_and(owns);
    Ok(namespaces.iter().filter(own).flat_map(|namespace| Audited(namespace.clone()).unexplained()).collect())
}

/// Waits until the audit of a namespace is as wanted, and gives it; else what it was at last is part of the error.
///
/// # Errors
/// When it never is, or the agent does not answer.
pub fn wait_for(socket: &Path, netns: u64, what: &str, wanted: impl Fn(&Audited) -> bool) -> Result<Audited> {
    let mut last = None;
    let found = poll(what, Duration::from_secs(10), || match of(socket, netns) {
        Ok(Some(audited)) if wanted(&audited) => Some(Ok(audited)),
        Ok(audited) => {
            last = audited;
            None
        }
        Err(error) => Some(Err(error)),
    });
    found.with_context(|| format!("the audit of {netns}: {last:?}"))?
}

/// A process in a namespace that does nothing: without one, nobody could read the namespace's counters.
///
/// # Errors
/// When it cannot be started.
pub fn occupy(namespace: &Namespace) -> Result<Guarded> {
    let mut sleep = namespace.command("sleep")?;
    sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null());
    Guarded::spawn(&mut sleep)
}

impl Audited {
    /// What the kernel counted.
    pub fn kernel(&self, counter: &str) -> u64 {
        self.line(counter).and_then(|line| line["kernel"].as_u64()).unwrap_or(0)
    }

    /// What the agent saw.
    pub fn seen(&self, counter: &str) -> u64 {
        self.line(counter).and_then(|line| line["seen"].as_u64()).unwrap_or(0)
    }

    /// The gaps of a counter: how many, and why; `null` for those that are not explained.
    pub fn gaps(&self, counter: &str) -> Vec<(i64, Option<String>)> {
        let gaps = self.line(counter).and_then(|line| line["gaps"].as_array());
        let gap = |gap: &Value| (gap["count"].as_i64().unwrap_or(0), gap["why"].as_str().map(str::to_owned));
        gaps.into_iter().flatten().map(gap).collect()
    }

    /// Gaps that nothing explains, as text.
    pub fn unexplained(&self) -> Vec<String> {
        let lines = self.0["counters"].as_array().into_iter().flatten();
        let has_gap = |line: &&Value| {
            line["gaps"].as_array().is_some_and(|gaps| gaps.iter().any(|gap| gap["why"].is_null()))
        };
        lines.filter(has_gap).map(Value::to_string).collect()
    }

    /// Gaps of any kind, as text.
    pub fn all_gaps(&self) -> Vec<String> {
        let lines = self.0["counters"].as_array().into_iter().flatten();
        let has_gap = |line: &&Value| line["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty());
        lines.filter(has_gap).map(Value::to_string).collect()
    }

    fn line(&self, counter: &str) -> Option<&Value> {
        self.0["counters"].as_array()?.iter().find(|line| line["counter"] == counter)
    }
}
