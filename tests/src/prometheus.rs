//! Debian's Prometheus and Alertmanager with the files that `deploy/` ships. What a test has to have otherwise (shorter
//! intervals, other addresses) is put in their place, and must have stood there.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::free_port;
use crate::process::{Gathered, Guarded, poll};
use crate::scrape::get;
use crate::server::require_program;

/// Both open files and read them again before they answer.
const READY: Duration = Duration::from_secs(30);
/// The files that the Prometheus of a test reads.
const RULES: [&str; 2] = ["rules.yaml", "alerts.yaml"];

/// A folder of `deploy/`, or a file in it.
pub fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// What `deploy/` has at `path`, with each first text in place of its second.
///
/// # Errors
/// When a text to be replaced does not occur: the file has changed, and the test would test something else.
pub fn shipped(path: &str, replaced: &[(&str, &str)]) -> Result<String> {
    let file = deployed(path);
    let mut text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    for (old, new) in replaced {
        ensure!(text.contains(old), "{} has no {old:?}", file.display());
        text = text.replace(old, new);
    }
    Ok(text)
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
}

impl Prometheus {
    /// Scrapes the agent and tells the Alertmanager, once a second. An alert fires when it has held for 2 s,
    /// but for those that wait for ten minutes.
    ///
    /// # Errors
    /// When it is missing, refuses its files, or is not ready in time.
    pub fn start(agent: SocketAddr, alertmanager: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-prometheus-").tempdir()?;
        let main = shipped(
            "prometheus/prometheus.yml",
            &[
                ("scrape_interval: 15s", "scrape_interval: 1s"),
                ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                ("127.0.0.1:19435", &agent.to_string()),
                ("127.0.0.1:9093", &alertmanager.to_string()),
            ],
        )?;
        fs::write(folder.path().join("prometheus.yml"), main)?;
        for file in RULES {
            let text = shipped(&format!("prometheus/{file}"), &[])?;
            fs::write(folder.path().join(file), at_once(&text))?;
        }
        let address = free_port()?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.args([&format!("--web.listen-address={address}"), "--log.level=warn"]);
        Ok(Self { server: Server::start("prometheus", command, folder, address)? })
    }

    /// What an expression gives now: objects with `metric` and `value`.
    ///
    /// # Errors
    /// When it is refused, with what Prometheus says.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", percent_encoded(expression));
        let (_, body) = get(self.server.address, &path)?;
        let answer: Value = serde_json::from_str(&body).with_context(|| format!("{expression}: {body}"))?;
        ensure!(answer["status"] == "success", "{expression}: {}", answer["error"]);
        let result = answer["data"]["result"].as_array();
        Ok(result.with_context(|| format!("{expression} gives no vector: {body}"))?.clone())
    }

    /// Waits until an expression gives something, and gives it.
    ///
    /// # Errors
    /// When it is refused, or gives nothing within `limit`.
    pub fn wait_for(&self, expression: &str, limit: Duration) -> Result<Vec<Value>> {
        let mut refused = None;
        let given = poll(expression, limit, || match self.query(expression) {
            Ok(samples) => (!samples.is_empty()).then_some(samples),
            Err(error) => {
                refused = Some(error);
                Some(Vec::new())
            }
        })
        .with_context(|| format!("Prometheus says: {}", self.server.stderr.text()))?;
        refused.map_or(Ok(given), Err)
    }

    /// Every alert that is pending or fires now, for messages.
    pub fn alerts(&self) -> String {
        get(self.server.address, "/api/v1/alerts").map_or_else(|error| format!("{error:#}"), |(_, body)| body)
    }
}

/// An alert holds for minutes before it fires, which a test does not wait for. What takes ten is not to come in a test: it
/// silences the alert that comes first.
fn at_once(rules: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, "1m" | "2m" | "5m")) if indent.trim().is_empty() => format!("{indent}for: 2s\n"),
        _ => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

/// A running Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    server: Server,
}

impl Alertmanager {
    /// Routes as the shipped configuration does, with these receivers in place of its examples, a second after an
    /// alert has come.
    ///
    /// # Errors
    /// When it is missing, refuses its file, or is not ready in time.
    pub fn start(web: SocketAddr, mail: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-alertmanager-").tempdir()?;
        let chat = format!("http://{web}/slack");
        let configuration = shipped(
            "prometheus/alertmanager.yml",
            &[
                ("group_wait: 30s", "group_wait: 1s"),
                ("http://127.0.0.1:9095/rstrace", &format!("http://{web}/rstrace")),
                ("https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXX", &chat),
                ("127.0.0.1:25", &mail.to_string()),
            ],
        )?;
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, configuration)?;
        let address = free_port()?;
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.path={}", folder.path().join("data").display()));
        command.args([
            &format!("--web.listen-address={address}"),
            "--cluster.listen-address=",
            "--log.level=warn",
        ]);
        Ok(Self { server: Server::start("prometheus-alertmanager", command, folder, address)? })
    }

    /// Where it takes alerts.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What it logged, for messages.
    pub fn log(&self) -> String {
        self.server.stderr.text()
    }
}

/// What both have in common: `/-/ready`, a folder, a log.
#[derive(Debug)]
struct Server {
    _process: Guarded,
    stderr: Gathered,
    address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    fn start(name: &str, mut command: Command, folder: TempDir, address: SocketAddr) -> Result<Self> {
        require_program(name)?;
        // They write further files where they are.
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        let stderr = Gathered::of(process.child().stderr.take().context("its stderr is piped")?);
        let ready = poll(&format!("{name} to be ready"), READY, || match process.child().try_wait() {
            Ok(None) => get(address, "/-/ready").ok().filter(|(status, _)| *status == 200).map(|_| true),
            _ => Some(false),
        });
        if !ready.with_context(|| stderr.text())? {
            bail!("{name} ended: {}", stderr.text());
        }
        Ok(Self { _process: process, stderr, address, _folder: folder })
    }
}

fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{at_once, percent_encoded};

    #[test]
    fn an_expression_survives_the_way_into_an_address() {
        assert_eq!(
            percent_encoded("a{b=~\"c d\"} > 0"),
            "a%7Bb%3D~%22c%20d%22%7D%20%3E%200".replace('~', "%7E")
        );
    }

    #[test]
    fn only_the_time_for_which_an_alert_holds_is_shortened() {
        let rules = "- alert: A\n  expr: a[5m]\n  for: 1m\n  text: wait for: 1m\n  for: 10m\n";
        assert_eq!(
            at_once(rules),
            "- alert: A\n  expr: a[5m]\n  for: 2s\n  text: wait for: 1m\n  for: 10m\n"
        );
    }
}
