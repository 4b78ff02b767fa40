//! `rstrace agent --kubernetes` as the image has it, with the names that an API server gives. That server is a stand-in;
//! the translation of a Service's address is real (iptables, as kube-proxy does it).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::{Agent, free_port};
use rstrace_tests::api_server::{self, kubeconfig, service, slice};
use rstrace_tests::capabilities::{NET_ADMIN, THREE, bound, mask, threads};
use rstrace_tests::client::{Request, dial_refused};
use rstrace_tests::container::static_binary;
use rstrace_tests::netns::{Family, Link, Net, unique_port};
use rstrace_tests::process::{poll, run};
use rstrace_tests::server::Server;
use rstrace_tests::serving::Serving;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const SERVICE: &str = "10.96.0.10:80";
const POD: &str = "api-66b6c48dd5-gz5nx";

/// A gateway's network whose connections to the Service are led to a pod, and the API server of both.
struct Cluster {
    net: Net,
    pod: SocketAddr,
    folder: tempfile::TempDir,
    config: std::path::PathBuf,
    server: Option<Server>,
    _api: Serving,
}

impl Cluster {
    fn start() -> Result<Self> {
        let net = Net::create(Link::Veth, Family::V4)?;
        let pod = net.free_upstream();
        let server = Server::start(net.upstream(), pod, &[], None)?;
        let cluster: SocketAddr = SERVICE.parse()?;
        let (address, port) = (cluster.ip().to_string(), cluster.port().to_string());
        net.gateway().ip(&["route", "add", &address, "via", &net.upstream_ip().to_string()])?;
        let (rule, to) = (["-w", "-t", "nat", "-A", "OUTPUT", "-p", "tcp"], pod.to_string());
        let rest = ["-d", &address, "--dport", &port, "-j", "DNAT", "--to-destination", &to];
        run(net.gateway().command("iptables")?.args(rule).args(rest))?;
        let at = SocketAddr::new(net.gateway_ip(), unique_port());
        let objects = HashMap::from([
            ("services", vec![service("shop", "api", cluster)]),
            ("endpointslices", vec![slice("shop", "api", POD, pod)]),
        ]);
        let api = api_server::start(net.gateway(), at, objects)?;
        let folder = tempfile::tempdir()?;
        let config = kubeconfig(folder.path(), at)?;
        Ok(Self { net, pod, folder, config, server: Some(server), _api: api })
    }

    /// The agent in the gateway's network, as on a node, with these capabilities alone.
    fn agent(&self, capabilities: &[u32]) -> Result<Agent> {
        let mut command = self.net.gateway().command(static_binary()?)?;
        bound(&mut command, capabilities);
        command.env("KUBECONFIG", &self.config).current_dir(self.folder.path());
        Agent::start_as(command, &["--kubernetes", "--node", "node-1"])
    }

    /// Whether a line is about this gateway: an agent sees the whole host, and the other test's Service has this address.
    fn told(&self, line: &Value, cause: &str) -> bool {
        let ours = line["netns"] == self.net.gateway().inode() && line["upstream"] == SERVICE;
        ours && line["cause"] == cause
    }

    /// Lets the upstream close connections without an answer until the verdict has the Service's name.
    fn named(&self, agent: &mut Agent) -> Result<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            agent.forget();
            Request::start(self.net.gateway(), &[&format!("http://{SERVICE}/fin")])?
                .finish(Duration::from_secs(10))?;
            let line = agent.wait_for("the close", Duration::from_secs(10), |line| {
                self.told(line, "closed_without_response")
            })?;
            let line = line.json.clone();
            if line["upstream_name"] == "shop/api" {
                return Ok(line);
            }
            if Instant::now() > deadline {
                bail!("no name in {line}: {}", agent.stderr());
            }
        }
    }
}

#[test]
fn image_names_the_pod_behind_the_address_of_a_service() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let mut agent = cluster.agent(&[THREE, &[NET_ADMIN]].concat())?;
    let line = cluster.named(&mut agent)?;
    ensure!(line["upstream_pod"] == format!("shop/{POD}"), "{line}");
    ensure!(line["upstream_endpoint"] == cluster.pod.to_string(), "{line}");
    let kept = mask(&[THREE, &[NET_ADMIN]].concat());
    let all = threads(agent.pid())?;
    ensure!(all.iter().all(|thread| thread.effective & !kept == 0), "{all:?}");

    // Of a connection that was refused the kernel remembers nothing; its Service is known all the same.
    drop(cluster.server.take());
    agent.forget();
    dial_refused(cluster.net.gateway(), SERVICE.parse()?, 1)?;
    let refused = |line: &Value| cluster.told(line, "no_listener");
    let line = agent.wait_for("the refusal", LIMIT, refused)?.json.clone();
    ensure!(line["upstream_name"] == "shop/api" && line["upstream_endpoint"].is_null(), "{line}");
    Ok(())
}

#[test]
fn image_without_the_capability_names_the_service_and_says_why_not_its_pod() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut agent = cluster.agent(THREE)?;
    let line = cluster.named(&mut agent)?;
    ensure!(line["upstream_pod"].is_null() && line["upstream_endpoint"].is_null(), "{line}");
    agent.logs("that takes CAP_NET_ADMIN")?;
    Ok(())
}

/// What the agent may hold more after so many verdicts, in kB of anonymous memory: the history and its tables.
const MORE_KB: u64 = 20_000;
const REFUSED: u32 = 2000;

#[test]
fn image_goes_on_with_a_dead_api_server() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(static_binary()?);
    command.env("KUBECONFIG", kubeconfig(folder.path(), free_port()?)?);
    let mut agent = Agent::start_as(command, &["--kubernetes", "--node", "node-1"])?;
    let before = agent.anonymous_kb()?;
    let upstream = net.free_upstream();
    dial_refused(net.gateway(), upstream, REFUSED)?;
    agent.wait_for("a refused connect", LIMIT, |line| line["upstream"] == upstream.to_string())?;
    let failures = poll("a count of failures", LIMIT, || {
        let failures = agent.scrape().ok()?.sum("rstrace_names_failures_total", &[("source", "kubernetes")]);
        (failures >= 3.0).then_some(failures)
    })
    .with_context(|| agent.stderr())?;
    let said = |agent: &Agent| agent.stderr().matches("what is known stays").count();
    // Each of the three watches asked again, later and later, and said so once.
    ensure!(failures < 60.0, "{failures} failures: the pauses do not grow");
    poll("a word of each watch", LIMIT, || said(&agent).ge(&3).then_some(()))?;
    ensure!(said(&agent) == 3, "{}", agent.stderr());
    let more = agent.anonymous_kb()?.saturating_sub(before);
    ensure!(more < MORE_KB, "{more} kB more");
    Ok(())
}
