//! What must have been told of a scene: by the gateway's log, by the agent's lines, and on its metrics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Scene, Watcher};
use crate::agent::{Agent, Verdict};
use crate::expect::{self, Cast};
use crate::process::poll;
use crate::scenario::Scenario;
use crate::scrape::Scrape;

/// The verdict of an abort comes this soon on a machine however busy; how soon it should, alone_latency.rs demands.
const VERDICT: Duration = Duration::from_secs(20);
/// How long after the fence a late line would still be seen: the settle window and some more.
const SETTLE: Duration = Duration::from_millis(400);

impl Scene {
    /// Checks everything that must be said of this scenario, and that nothing else was said.
    /// Gives the verdict's line for what a test wants to check beyond.
    ///
    /// # Errors
    /// With what is wrong or missing.
    pub fn expect(&mut self, name: &'static str) -> Result<Value> {
        let scenario = Scenario::named(name)?;
        self.expect_in_nginx_log(&scenario)?;
        if self.watcher == Watcher::Nobody {
            return Ok(Value::Null);
        }
        let upstream = self.upstream();
        let verdict = self.wait_for_verdict(VERDICT)?;
        let cast = self.cast();
        match self.watcher {
            Watcher::Gateway => expect::as_the_gateway_sees_it(&verdict.json, &scenario, &upstream, &cast)?,
            _ => expect::as_the_host_sees_it(&verdict.json, &scenario, &upstream, &cast)?,
        }
        self.expect_only(1)?;
        if self.watcher != Watcher::Gateway {
            self.expect_on_metrics(&scenario)?;
        }
        Ok(verdict.json)
    }

    /// Checks that so many connections have the same story, one line for each.
    ///
    /// # Errors
    /// With what is wrong or missing.
    pub fn expect_of_each(&mut self, name: &'static str, count: usize) -> Result<()> {
        self.expect_in_order(&vec![name; count])
    }

    /// Checks that exactly these stories were told of the upstream, in this order.
    ///
    /// # Errors
    /// With what is wrong or missing.
    pub fn expect_in_order(&mut self, names: &[&'static str]) -> Result<()> {
        let scenarios = names.iter().map(|name| Scenario::named(name)).collect::<Result<Vec<_>>>()?;
        for scenario in &scenarios {
            self.expect_in_nginx_log(scenario)?;
        }
        if self.watcher == Watcher::Nobody {
            return Ok(());
        }
        self.wait_for_verdict(VERDICT)?;
        self.expect_only(names.len())?;
        let upstream = self.upstream();
        let lines = self.own_lines();
        let lines = lines.iter().filter(|line| line["upstream"] == upstream.as_str());
        for (line, scenario) in lines.zip(&scenarios) {
            expect::as_the_host_sees_it(line, scenario, &upstream, &self.cast())
                .with_context(|| format!("{} in {line}", scenario.name))?;
        }
        let scrape = self.agent()?.scrape()?;
        let aborts = scrape.sum("rstrace_upstream_aborts_total", &[("upstream", &upstream)]);
        ensure!(aborts == names.len() as f64, "/metrics says {aborts} aborts:\n{}", scrape.about(&upstream));
        Ok(())
    }

    /// Checks that no line at all was written about this test's connections.
    ///
    /// # Errors
    /// With the lines.
    pub fn expect_silence(&mut self) -> Result<()> {
        if self.watcher == Watcher::Nobody { Ok(()) } else { self.expect_only(0) }
    }

    /// Waits for the first verdict about the upstream.
    ///
    /// # Errors
    /// When there is none within `limit`.
    pub fn wait_for_verdict(&mut self, limit: Duration) -> Result<Verdict> {
        let upstream = self.upstream();
        let wanted = |line: &Value| line["kind"] == "verdict" && line["upstream"] == upstream.as_str();
        self.agent()?.wait_for(&upstream, limit, wanted)
    }

    /// The lines about this test's namespaces; with `--all`, those about the upstream, because the
    /// client's own healthy connections are shown too.
    pub fn own_lines(&self) -> Vec<Value> {
        let upstream = self.upstream();
        let seen = self.agent.as_ref().map(Agent::seen).unwrap_or_default();
        let lines = seen.iter().map(|line| &line.json).filter(|line| line["kind"] == "verdict");
        let own = lines.filter(|line| {
            let here = line["netns"].as_u64().is_some_and(|inode| self.net.owns(inode));
            here && (self.watcher != Watcher::HostAll || line["upstream"] == upstream.as_str())
        });
        own.cloned().collect()
    }

    fn cast(&self) -> Cast<'_> {
        Cast { workers: self.gateway.worker_pids(), server: self.server_pid, killer: self.killer }
    }

    /// Reads until so many lines were written about this test.
    fn wait_for_lines(&mut self, count: usize) -> Result<()> {
        let deadline = Instant::now() + VERDICT;
        while self.own_lines().len() < count {
            ensure!(Instant::now() < deadline, "fewer than {count} lines after {VERDICT:?}");
            self.agent()?.read_for(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Makes a further event that is known to be reported, and demands that until then, and for the
    /// settle window after, exactly `count` lines were written.
    fn expect_only(&mut self, count: usize) -> Result<()> {
        self.wait_for_lines(count)?;
        let fence = self.fence.to_string();
        self.demand("/fence", 502).context("the fence")?;
        let wanted = |line: &Value| line["upstream"] == fence.as_str();
        let agent = self.agent()?;
        agent.wait_for("the fence", VERDICT, wanted)?;
        agent.read_for(SETTLE)?;
        let lines = self.own_lines();
        let own = lines.iter().filter(|line| line["upstream"] != fence.as_str()).count();
        ensure!(own == count, "{own} lines in place of {count}");
        let fences = lines.len() - own;
        ensure!(fences <= 1, "{fences} lines about one refused connection");
        Ok(())
    }

    fn expect_in_nginx_log(&self, scenario: &Scenario) -> Result<()> {
        let line = scenario.text("nginx");
        poll(&format!("{line:?} in nginx's log"), VERDICT, || {
            self.gateway.error_log().contains(line).then_some(())
        })
    }

    fn expect_on_metrics(&mut self, scenario: &Scenario) -> Result<()> {
        let upstream = self.upstream();
        let scrape = self.agent()?.scrape()?;
        check_metrics(&scrape, scenario, &upstream)
            .with_context(|| format!("/metrics about {upstream}:\n{}", scrape.about(&upstream)))
    }
}

fn check_metrics(scrape: &Scrape, scenario: &Scenario, upstream: &str) -> Result<()> {
    let [by, cause, impact] = ["by", "cause", "impact"].map(|key| scenario.text(key));
    let aborts = "rstrace_upstream_aborts_total";
    // What harmed nobody is no abort.
    let expected = f64::from(u8::from(impact != "none"));
    let all = scrape.sum(aborts, &[("upstream", upstream), ("impact", impact)]);
    let labels = [("upstream", upstream), ("by", by), ("cause", cause), ("impact", impact)];
    let exact = scrape.sum(aborts, &labels);
    if expected > 0.0 {
        ensure!(exact == expected, "{aborts}{{by={by},cause={cause},impact={impact}}} is {exact}");
        let every = scrape.sum(aborts, &[("upstream", upstream)]);
        ensure!(every == expected, "{aborts} says {every} aborts, {all} of this impact");
    }
    if let Some(metric) = scenario.metric() {
        let labels = [("upstream", upstream), ("direction", &*metric.direction), ("phase", &*metric.phase)];
        let value = scrape.sum(&metric.name, &labels);
        ensure!(value == 1.0, "{} {labels:?} is {value}", metric.name);
    }
    let outcomes = scenario.outcomes();
    let count = |outcome: &&str| {
        scrape.sum("rstrace_upstream_connections_total", &[("upstream", upstream), ("outcome", outcome)])
    };
    let value: f64 = outcomes.iter().map(count).sum();
    ensure!(outcomes.is_empty() || value == 1.0, "connections with outcome {outcomes:?}: {value}");
    Ok(())
}
