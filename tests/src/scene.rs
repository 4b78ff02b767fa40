//! One test's stage: namespaces, the agent, the server, the gateway, and the steps that every
//! scenario shares; what must be told of it is in `told`. The faults themselves are in `tests/tests/`.

mod told;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::agent::Agent;
use crate::audit;
use crate::capabilities::{THREE, rstrace_with};
use crate::cgroup::MemoryCgroup;
use crate::client::{Outcome, Request};
use crate::missed::{self, Missed};
use crate::netns::{Family, Link, Net, require_root};
use crate::nginx::{GatewayOptions, Nginx};
use crate::server::Server;

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
    missed::again(&format!("{link:?} {family:?}"), anyhow::Error::is::<Missed>, || {
        play_once(link, family, plan, &story)
    })
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

    /// What rstrace's programs did not run for, if anything.
    fn missed(&self) -> Option<String> {
        let agent = self.agent.as_ref()?;
        let lost = missed::lost(agent.listen());
        let gaps = audit::unexplained(&agent.socket(), &|inode| self.net.owns(inode)).unwrap_or_default();
        missed::why((!lost.is_empty()).then(|| lost.trim().to_owned()), &gaps)
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
