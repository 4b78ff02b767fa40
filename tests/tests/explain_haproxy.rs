//! `rstrace explain` on the real log of a real HAProxy.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::board::Program;
use rstrace_tests::client::Request;
use rstrace_tests::explained::{expect, stories};
use rstrace_tests::netns::{Family, Link, Net, unique_port};
use rstrace_tests::process::{poll, run_within};
use rstrace_tests::server::Server;
use serde_json::Value;

/// Three frontends, the last of which logs nothing, and four backends.
fn configuration(
    [usual, added, unlogged]: [SocketAddr; 3],
    [serving, frozen, nobody]: [SocketAddr; 3],
) -> String {
    let format = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs \
                  %{+Q}r %bi:%bp %si:%sp";
    let choose = "use_backend nobody if { path /nobody }\n use_backend frozen if { path /frozen }\n \
                  use_backend down if { path /down }\n default_backend serving";
    format!(
        "global\n log stdout format raw local0\n\
             defaults\n log global\n mode http\n retries 0\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             frontend usual\n bind {usual}\n option httplog\n {choose}\n\
             frontend added\n bind {added}\n log-format \"{format}\"\n {choose}\n\
             frontend unlogged\n bind {unlogged}\n no log\n default_backend nobody\n\
             backend serving\n server s {serving}\nbackend frozen\n timeout server 300ms\n server f {frozen}\n\
             backend nobody\n server n {nobody}\nbackend down\n server d {nobody} disabled\n"
    )
}

/// Until the agent has read the configuration, upstreams have no names.
fn wait_for_names(net: &Net, agent: &mut Agent, unlogged: SocketAddr, nobody: SocketAddr) -> Result<()> {
    poll("a verdict with a name", Duration::from_secs(20), || {
        agent.forget();
        Request::start(net.gateway(), &[&format!("http://{unlogged}/")])
            .ok()?
            .finish(Duration::from_secs(5))
            .ok()?;
        let refused = |line: &Value| line["upstream"] == nobody.to_string();
        let line = agent.wait_for("a refusal", Duration::from_secs(5), refused).ok()?;
        line.json["upstream_name"].as_str()?.contains("nobody/n").then_some(())
    })
}

/// Every failure there is.
fn break_all(net: &Net, usual: SocketAddr, added: SocketAddr) -> Result<()> {
    for (path, status) in [("/fin", 502), ("/nobody", 503), ("/frozen", 504), ("/down", 503), ("/reset", 502)]
    {
        for frontend in [usual, added] {
            let url = format!("http://{frontend}{path}");
            let outcome = Request::start(net.gateway(), &[&url])?.finish(Duration::from_secs(10))?;
            ensure!(outcome.status == status, "{path} ended with {outcome:?}");
        }
    }
    for path in ["/bad-header", "/big-header/200000", "/segv"] {
        let url = format!("http://{added}{path}");
        let outcome = Request::start(net.gateway(), &[&url])?.finish(Duration::from_secs(10))?;
        ensure!(outcome.status == 502, "{path} ended with {outcome:?}");
    }
    Ok(())
}

/// One frontend with its usual log, one that adds the addresses.
#[test]
fn each_failure_in_the_log_of_haproxy_gets_its_verdict() -> Result<()> {
    let net = Net::create(Link::Veth, Family::V4)?;
    let [serving, frozen, nobody] = std::array::from_fn(|_| net.free_upstream());
    let mut server = Server::start(net.upstream(), serving, &[], None)?;
    let _frozen = Server::start(net.upstream(), frozen, &["--frozen", "16"], None)?;
    let [usual, added, unlogged] = std::array::from_fn(|_| SocketAddr::new(net.gateway_ip(), unique_port()));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, configuration([usual, added, unlogged], [serving, frozen, nobody]))?;
    let log = folder.path().join("haproxy.log");
    let mut command = net.gateway().command("haproxy")?;
    command.arg("-W").arg("-db").arg("-f").arg(&file);
    let haproxy = Program::start(command, &log)?;
    poll("HAProxy to listen", Duration::from_secs(10), || {
        net.gateway().enter(|| std::net::TcpStream::connect(added).ok()).ok().flatten()
    })
    .with_context(|| haproxy.said())?;
    let mut agent = Agent::start(false)?;
    wait_for_names(&net, &mut agent, unlogged, nobody)?;
    break_all(&net, usual, added).with_context(|| haproxy.said())?;
    server.wait()?;
    let crashed =
        |line: &Value| line["cause"] == "process_crashed" && line["upstream"] == serving.to_string();
    agent.wait_for("the crash", Duration::from_secs(5), crashed)?;
    haproxy.wait_to_say("/segv", Duration::from_secs(5))?;
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(binary()?);
        command
            .args(["explain", "--haproxy-log"])
            .arg(&log)
            .args(arguments)
            .arg("--socket")
            .arg(agent.socket());
        run_within(&mut command, Duration::from_secs(20))
    };
    let ended = explain(&["--json"])?;
    let mut lines = ended
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()
        .context(ended.stderr)?;
    let total = lines.pop().context("no last line")?;
    let [serving, frozen, nobody] = [serving, frozen, nobody].map(|address| address.to_string());
    let all = || format!("{total}\n{:#?}\n{}", stories(&lines), haproxy.said());
    expect(
        &stories(&lines),
        &[
            ("serving/s", "broken", "closed_without_response"),
            (&serving, "broken", "closed_without_response"),
            ("nobody/n", "connect_failed", "no_listener"),
            (&nobody, "connect_failed", "no_listener"),
            ("frozen/f", "timed_out", "never_accepted"),
            (&frozen, "timed_out", "never_accepted"),
            ("down/<NOSRV>", "no_live_upstreams", "-"),
            ("down/<NOSRV>", "no_live_upstreams", "-"),
            ("serving/s", "broken", "reset_without_response"),
            (&serving, "broken", "reset_without_response"),
            // HAProxy has read all of it, so there is no verdict: the log alone knows.
            (&serving, "invalid_answer", "-"),
            (&serving, "invalid_answer", "gateway_rejected_response"),
            (&serving, "broken", "process_crashed"),
        ],
    )
    .with_context(all)?;
    ensure!(total["joined"] == 10 && total["log_alone"] == 3, "{}", all());
    let nameless: Vec<_> = lines.iter().filter(|line| line["joined_by"] == "name").collect();
    ensure!(nameless.len() == 4, "{}", all());
    for line in nameless {
        ensure!(line["verdict"]["owner"]["comm"] == "haproxy", "{line}");
    }
    ensure!(lines.iter().any(|line| line["joined_by"] == "local_port"), "{}", all());
    Ok(())
}
