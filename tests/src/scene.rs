//! One test's stage: namespaces, the agent, the server, the gateway, and the steps that every
//! scenario shares. The faults themselves are in `tests/tests/`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::agent::{Agent, Verdict};
use crate::audit::{self, Missed};
use crate::capabilities::{THREE, rstrace_with};
use crate::cgroup::MemoryCgroup;
use crate::client::{Outcome, Request};
use crate::expect::{self, Cast};
use crate::netns::{Family, Link, Net, require_root};
use crate::nginx::{GatewayOptions, Nginx};
use crate::process::poll;
use crate::scenario::Scenario;
use crate::scrape::Scrape;
use crate::server::Server;

/// The verdict of an abort comes this soon on a machine however busy; how soon it should, alone_latency.rs demands.
const VERDICT: Duration = Duration::from_secs(20);
/// How often a story is played of which the kernel let rstrace miss something.
const PLAYS: u32 = 4;
/// How long after the fence a late line would still be seen: the settle window and some more.
const SETTLE: Duration = Duration::from_millis(400);

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watcher {
    /// The agent of the whole host.
    Host,
    /// The agent of the whole host, started after the server and the gateway.
    LateHost,
    /// The agent of the whole host, started after an agent before it was killed with all its eyes open.
    RestartedHost,
    /// The agent of the whole host, which also shows what harmed nobody.
    HostAll,
    /// The agent of the whole host, with no other capabilities than the three that it asks for.
    HostWithThree,
    /// `watch --vantage` on the gateway's namespace.
    Gateway,
    /// Nobody: to prove the harness by nginx's own log.
    Nobody,
}

/// What a scenario needs on its stage.
#[derive(Debug, Clone)]
pub struct Plan {
    pub watcher: Watcher,
    pub gateway: GatewayOptions,
    /// The server's arguments, `None` for no server at all.
    pub server: Option<&'static [&'static str]>,
    pub memory_limit: Option<u64>,
    /// A request that is answered before the late agent starts, so that its kept connection is older.
    pub early_request: Option<&'static str>,
    /// The upstream is an address where SYNs stay unanswered.
    pub dead_upstream: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            watcher: Watcher::Host,
            gateway: GatewayOptions::default(),
            server: Some(&[]),
            memory_limit: None,
            early_request: None,
            dead_upstream: false,
        }
    }
}

/// The stage. Processes are declared before the namespaces, so they end first.
#[derive(Debug)]
pub struct Scene {
    agent: Option<Agent>,
    gateway: Nginx,
    server: Option<Server>,
    _cgroup: Option<MemoryCgroup>,
    net: Net,
    watcher: Watcher,
    upstream: SocketAddr,
    fence: SocketAddr,
    killer: Option<u32>,
    server_pid: Option<u32>,
}

/// Sets the stage, lets `story` play on it, and adds all that was seen to its error. A story of which the kernel let
/// rstrace miss something is played again, and that is said.
///
/// # Errors
/// When the stage cannot be set or the story fails.
pub fn play(link: Link, family: Family, plan: &Plan, story: impl Fn(&mut Scene) -> Result<()>) -> Result<()> {
    require_root()?;
    for _ in 1..PLAYS {
        match play_once(link, family, plan, &story) {
            Err(error) if error.is::<Missed>() => {
                let why = error.to_string();
                eprintln!("played again: {}", why.lines().next().unwrap_or_default());
            }
            played => return played,
        }
    }
    play_once(link, family, plan, &story)
}

fn play_once(
    link: Link,
    family: Family,
    plan: &Plan,
    story: &impl Fn(&mut Scene) -> Result<()>,
) -> Result<()> {
    let mut scene = Scene::set(link, family, plan).context("set the stage")?;
    story(&mut scene).map_err(|error| {
        let (missed, seen) = (scene.missed(), scene.all_that_was_seen());
        match missed {
            Some(what) => Missed { what, failed: format!("{error:#}\n{link:?} {family:?}\n{seen}") }.into(),
            None => error.context(format!("{link:?} {family:?}\n{seen}")),
        }
    })
}

impl Scene {
    fn set(link: Link, family: Family, plan: &Plan) -> Result<Self> {
        let mut net = Net::create(link, family)?;
        let agent = match plan.watcher {
            Watcher::Host | Watcher::RestartedHost => Some(Agent::start(false)?),
            Watcher::HostAll => Some(Agent::start(true)?),
            Watcher::HostWithThree => Some(Agent::start_as(rstrace_with(THREE)?, &[])?),
            Watcher::Gateway => Some(Agent::watch(&["--vantage", &net.gateway().path().to_string_lossy()])?),
            Watcher::LateHost | Watcher::Nobody => None,
        };
        let upstream = if plan.dead_upstream { net.dead_upstream()? } else { net.free_upstream() };
        let fence = net.free_upstream();
        let cgroup = plan.memory_limit.map(MemoryCgroup::create).transpose()?;
        let server = match plan.server {
            Some(arguments) => Some(Server::start(net.upstream(), upstream, arguments, cgroup.as_ref())?),
            None => None,
        };
        let gateway = Nginx::start(net.gateway(), net.gateway_ip(), upstream, fence, &plan.gateway)?;
        let server_pid = server.as_ref().map(Server::pid);
        let watcher = plan.watcher;
        let mut scene = Self {
            agent,
            gateway,
            server,
            _cgroup: cgroup,
            net,
            watcher,
            upstream,
            fence,
            killer: None,
            server_pid,
        };
        if let Some(path) = plan.early_request {
            scene.demand(path, 200)?;
        }
        if watcher == Watcher::LateHost {
            scene.agent = Some(Agent::start(false)?);
        }
        if watcher == Watcher::RestartedHost {
            scene.agent = scene.agent.take().map(Agent::killed_and_started_again).transpose()?;
        }
        Ok(scene)
    }

    /// Sends a request through the gateway and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn request(&self, path: &str) -> Result<Outcome> {
        self.start_request(path, &[])?.finish(Duration::from_secs(10))
    }

    /// Sends a request through the gateway, with further arguments for curl.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn start_request(&self, path: &str, arguments: &[&str]) -> Result<Request> {
        let url = self.gateway.url(path);
        let mut all = arguments.to_vec();
        all.push(&url);
        Request::start(self.net.gateway(), &all)
    }

    /// Sends a request and demands this status of the gateway.
    ///
    /// # Errors
    /// When it is another.
    pub fn demand(&self, path: &str, status: u16) -> Result<()> {
        let outcome = self.request(path)?;
        ensure!(outcome.status == status, "{path} ended with {outcome:?}, not {status}");
        Ok(())
    }

    /// The server.
    ///
    /// # Errors
    /// When the plan has none.
    pub fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().context("this scene has no server")
    }

    /// The agent.
    ///
    /// # Errors
    /// When nobody watches.
    pub fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("nobody watches this scene")
    }

    pub fn gateway(&self) -> &Nginx {
        &self.gateway
    }

    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The upstream's address, as `upstream` names it.
    pub fn upstream(&self) -> String {
        self.upstream.to_string()
    }

    /// Where nobody listens, which the gateway's `/fence` dials.
    pub fn fence(&self) -> SocketAddr {
        self.fence
    }

    /// Notes who killed the server, for `killed_by`.
    pub fn note_killer(&mut self, pid: u32) {
        self.killer = Some(pid);
    }

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
            ensure!(Instant::now() < deadline, "fewer than {count} lines");
            self.agent()?.read_for(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Makes a further event that is known to be reported, and demands that until then, and for the
    /// settle window after, exactly `count` lines were written.
    fn expect_only(&mut self, count: usize) -> Result<()> {
        // What is missing may be late; what is too much would be late too, and is waited for below.
        let _ = self.wait_for_lines(count);
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

    /// What rstrace's programs did not run for, if anything.
    fn missed(&self) -> Option<String> {
        let agent = self.agent.as_ref()?;
        let lost = audit::lost(agent.listen());
        if !lost.is_empty() {
            return Some(format!("the agent has lost events ({})", lost.trim()));
        }
        let gaps = audit::unexplained(&agent.socket(), &|inode| self.net.owns(inode)).unwrap_or_default();
        (!gaps.is_empty())
            .then(|| format!("the kernel counted what no program ran for ({})", gaps.join(", ")))
    }

    fn all_that_was_seen(&self) -> String {
        let mut text = String::from("--- lines about this test\n");
        for line in self.own_lines() {
            text.push_str(&format!("{line}\n"));
        }
        if let Some(agent) = &self.agent {
            text.push_str(&format!("--- lines in all: {}\n--- rstrace's log\n", agent.seen().len()));
            text.push_str(&agent.stderr());
        }
        text.push_str("--- nginx's error log\n");
        let log = self.gateway.error_log();
        log.lines().filter(|line| !line.contains("[notice]")).for_each(|line| {
            text.push_str(line);
            text.push('\n');
        });
        text.push_str("--- nginx's access log\n");
        text.push_str(&self.gateway.access_log());
        text
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
