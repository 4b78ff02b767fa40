//! `rstrace explain` on the real logs of real proxies: each failure beside its verdict.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::client::Request;
use rstrace_tests::explained::{expect, stories};
use rstrace_tests::netns::{Family, Link, Net, unique_port};
use rstrace_tests::nginx::Nginx;
use rstrace_tests::process::{Ended, poll, run_within};
use rstrace_tests::server::Server;
use serde_json::Value;

/// A gateway with several upstreams, and an agent that watches.
struct Stage {
    agent: Agent,
    gateway: Nginx,
    servers: Vec<Server>,
    net: Net,
    serving: String,
    frozen: String,
    nobody: String,
    log: tempfile::TempDir,
}

impl Stage {
    fn set() -> Result<Self> {
        let net = Net::create(Link::Veth, Family::V4)?;
        let agent = Agent::start(false)?;
        let [serving, frozen, nobody] = std::array::from_fn(|_| net.free_upstream());
        let servers = vec![
            Server::start(net.upstream(), serving, &[], None)?,
            Server::start(net.upstream(), frozen, &["--frozen", "16"], None)?,
        ];
        let log = tempfile::Builder::new().prefix("rstrace-explain-").tempdir()?;
        let address = std::net::SocketAddr::new(net.gateway_ip(), unique_port());
        let gateway = Nginx::start_with(
            net.gateway(),
            address,
            &configuration(&StageAddresses {
                address: address.to_string(),
                serving: serving.to_string(),
                frozen: frozen.to_string(),
                nobody: nobody.to_string(),
                log: log.path().to_owned(),
            }),
        )?;
        let [serving, frozen, nobody] = [serving, frozen, nobody].map(|address| address.to_string());
        Ok(Self { agent, gateway, servers, net, serving, frozen, nobody, log })
    }

    fn demand(&self, path: &str, status: u16) -> Result<()> {
        let url = self.gateway.url(path);
        let outcome = Request::start(self.net.gateway(), &[&url])?.finish(Duration::from_secs(10))?;
        ensure!(outcome.status == status, "{path} ended with {outcome:?}, not {status}");
        Ok(())
    }

    /// Waits until the agent has told of this many connections to an upstream.
    fn wait_for(&mut self, upstream: &str, cause: &str) -> Result<Value> {
        let wanted = |line: &Value| line["upstream"] == upstream && line["cause"] == cause;
        Ok(self.agent.wait_for(&format!("{cause} of {upstream}"), Duration::from_secs(5), wanted)?.json)
    }

    /// Breaks one upstream after the other, and waits for the last verdict.
    fn break_all(&mut self) -> Result<()> {
        for (path, status) in
            [("/serving/ok", 200), ("/nobody", 502), ("/serving/fin", 502), ("/serving/reset", 502)]
        {
            self.demand(path, status)?;
        }
        self.demand("/pool", 502)?;
        self.demand("/frozen", 504)?;
        self.demand("/name", 502)?;
        self.demand("/serving/segv", 502)?;
        self.servers[0].wait()?;
        let (serving, frozen) = (self.serving.clone(), self.frozen.clone());
        self.wait_for(&serving, "process_crashed")?;
        self.wait_for(&frozen, "never_accepted").map(drop)
    }

    fn file(&self, name: &str) -> String {
        self.log.path().join(name).to_string_lossy().into_owned()
    }

    fn explain(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = Command::new(binary()?);
        command.arg("explain").args(arguments).arg("--socket").arg(self.agent.socket());
        run_within(&mut command, Duration::from_secs(20))
    }

    fn explain_json(&self, arguments: &[&str]) -> Result<(Vec<Value>, Value)> {
        let ended = self.explain(&[arguments, &["--json"]].concat())?;
        ensure!(ended.code == Some(0) && ended.stderr.is_empty(), "{ended:?}");
        let lines = ended.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        let mut lines = lines.context(ended.stdout.clone())?;
        let total = lines.pop().context("no last line")?;
        ensure!(total["kind"] == "log_total", "{total}");
        Ok((lines, total))
    }
}

struct StageAddresses {
    address: String,
    serving: String,
    frozen: String,
    nobody: String,
    log: PathBuf,
}

fn configuration(of: &StageAddresses) -> String {
    let StageAddresses { address, serving, frozen, nobody, log } = of;
    let log = log.display();
    format!(
        r#"
  error_log {log}/error.log info;
  access_log {log}/combined.log combined;
  log_format named 'msec=$msec status=$status upstream_addr="$upstream_addr" upstream_status="$upstream_status" upstream_response_time="$upstream_response_time" upstream_header_time="$upstream_header_time" request="$request"';
  access_log {log}/named.log named;
  log_format own '$remote_addr [$time_local] "$request" $status $upstream_addr | $upstream_status | $request_time';
  access_log {log}/own.log own;
  upstream dead {{ server {nobody} max_fails=1 fail_timeout=60s; server {nobody} down; }}
  upstream pool {{ server {nobody}; server {nobody}; }}
  server {{
    listen {address};
    resolver 127.0.0.1:1; resolver_timeout 300ms;
    proxy_next_upstream error;
    location /serving/ {{ proxy_next_upstream off; proxy_pass http://{serving}/; }}
    location /frozen {{ proxy_read_timeout 300ms; proxy_pass http://{frozen}; }}
    location /nobody {{ proxy_pass http://{nobody}; }}
    location /pool {{ proxy_pass http://pool; }}
    location /name {{ set $name no-such-name.example; proxy_pass http://$name; }}
  }}
"#
    )
}

#[test]
fn each_failure_in_the_error_log_of_nginx_gets_its_verdict() -> Result<()> {
    let mut stage = Stage::set()?;
    stage.break_all()?;
    let log = stage.file("error.log");
    let (lines, total) = stage.explain_json(&["--nginx-error-log", &log])?;
    let (serving, frozen, nobody) = (&*stage.serving, &*stage.frozen, &*stage.nobody);
    expect(
        &stories(&lines),
        &[
            (nobody, "refused", "no_listener"),
            (serving, "closed", "closed_without_response"),
            (serving, "reset", "reset_without_response"),
            (nobody, "refused", "no_listener"),
            (nobody, "refused", "no_listener"),
            (frozen, "timed_out", "never_accepted"),
            ("dns:no-such-name.example", "not_resolved", "-"),
            (serving, "closed", "process_crashed"),
        ],
    )?;
    ensure!(total["failures"] == 8 && total["joined"] == 7 && total["log_alone"] == 1, "{total}");
    ensure!(total["not_joined"] == 0 && total["unknown_lines"] == 0, "{total}");
    let cookies: std::collections::BTreeSet<_> =
        lines.iter().filter_map(|line| line["verdict"]["connection"]["cookie"].as_u64()).collect();
    ensure!(cookies.len() == 7, "a verdict was used twice: {lines:?}");
    filters_choose(&stage, &log)?;
    people_read_the_same(&stage, &log)?;
    what_the_agent_has_not_seen_is_counted(&stage, &log)
}

fn filters_choose(stage: &Stage, log: &str) -> Result<()> {
    let (lines, total) = stage.explain_json(&["--nginx-error-log", log, "--cause", "no_listener"])?;
    ensure!(lines.len() == 3 && total["filtered"] == 5, "{total}");
    let (lines, _) = stage.explain_json(&["--nginx-error-log", log, "--upstream", &stage.frozen])?;
    ensure!(lines.len() == 1 && lines[0]["upstream"] == *stage.frozen, "{lines:?}");
    let (lines, total) = stage.explain_json(&["--nginx-error-log", log, "--until", "1h"])?;
    ensure!(lines.is_empty() && total["outside"] == 8, "{total}");
    Ok(())
}

fn people_read_the_same(stage: &Stage, log: &str) -> Result<()> {
    let ended = stage.explain(&["--nginx-error-log", log])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    for part in [
        "connect() failed (111: Connection refused) while connecting to upstream",
        "process_crashed",
        "no-such-name.example could not be resolved",
        "8 upstream failures in",
        "7 joined with a verdict, 1 explained by the log alone, 0 not joined",
    ] {
        ensure!(ended.stdout.contains(part), "no {part:?} in\n{}", ended.stdout);
    }
    ensure!(!ended.stdout.contains('\u{1b}'), "colours in a pipe: {:?}", ended.stdout);
    Ok(())
}

/// Lines from before the agent's time, of an upstream that it never saw, and of no such log.
fn what_the_agent_has_not_seen_is_counted(stage: &Stage, log: &str) -> Result<()> {
    let text = std::fs::read_to_string(log)?;
    let first = text.lines().find(|line| line.contains("connect() failed")).context("no refusal")?;
    let older = format!("2001/01/02{}", &first[10..]);
    let elsewhere = first.replace(&stage.nobody, "192.0.2.1:80");
    let path = stage.file("more.log");
    std::fs::write(
        &path,
        [older.as_bytes(), b"\n", elsewhere.as_bytes(), b"\n\xff\xfe no line of nginx\n"].concat(),
    )?;
    let (_, total) = stage.explain_json(&["--nginx-error-log", &path])?;
    let why: Vec<_> =
        total["why"].as_array().context("no reasons")?.iter().map(|why| &why["not_joined"]).collect();
    ensure!(why == ["before_memory", "upstream_not_seen"], "{total}");
    ensure!(total["not_joined"] == 2 && total["joined"] == 0 && total["unknown_lines"] == 1, "{total}");
    Ok(())
}

#[test]
fn a_log_without_addresses_is_joined_with_the_verdicts_of_the_gateway_that_is_named() -> Result<()> {
    let [mut one, other] = [Stage::set()?, Stage::set()?];
    let start = |stage: &Stage| Request::start(stage.net.gateway(), &[&stage.gateway.url("/frozen")]);
    for request in [start(&one)?, start(&other)?] {
        let outcome = request.finish(Duration::from_secs(10))?;
        ensure!(outcome.status == 504, "{outcome:?}");
    }
    for frozen in [one.frozen.clone(), other.frozen.clone()] {
        one.wait_for(&frozen, "never_accepted")?;
    }
    for whose in [&one, &other] {
        let netns = whose.net.gateway().path();
        let log = one.file("combined.log");
        let (lines, _) =
            one.explain_json(&["--nginx-access-log", &log, "--netns", &netns.to_string_lossy()])?;
        ensure!(lines.len() == 1 && lines[0]["verdict"]["upstream"] == *whose.frozen, "{lines:?}");
        ensure!(lines[0]["others"] == 0, "{lines:?}");
    }
    Ok(())
}

#[test]
fn a_verdict_is_explained_by_its_cookie() -> Result<()> {
    let mut stage = Stage::set()?;
    stage.demand("/nobody", 502)?;
    let nobody = stage.nobody.clone();
    let verdict = stage.wait_for(&nobody, "no_listener")?;
    let cookie = verdict["connection"]["cookie"].to_string();
    let kept = poll("the verdict in the history", Duration::from_secs(5), || {
        stage.explain(&[&cookie]).ok().filter(|ended| ended.code == Some(0))
    })?;
    for part in [&*nobody, "no_listener", "By upstream. Impact connect_failed.", "\nDo "] {
        ensure!(kept.stdout.contains(part), "no {part:?} in\n{}", kept.stdout);
    }
    let evidence = verdict["evidence"][0].as_str().context("no evidence")?;
    ensure!(kept.stdout.contains(evidence), "no {evidence:?} in\n{}", kept.stdout);
    let json = stage.explain(&[&cookie, "--json"])?;
    ensure!(serde_json::from_str::<Value>(&json.stdout)? == verdict, "{json:?}");
    let other = stage.explain(&["1"])?;
    ensure!(
        other.code == Some(1) && other.stderr.contains("no verdict with connection.cookie 1"),
        "{other:?}"
    );
    Ok(())
}

#[test]
fn bad_input_is_one_clear_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("some.log");
    let name = file.to_string_lossy().into_owned();
    let nobody = folder.path().join("nobody.sock").to_string_lossy().into_owned();
    std::fs::write(&file, "10.0.1.9 - - no such log\n")?;
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(binary()?);
        run_within(
            command.arg("explain").args(arguments).args(["--socket", &nobody]),
            Duration::from_secs(20),
        )
    };
    for (arguments, code, what) in [
        (&["--nginx-error-log", &*name][..], 1, "lines of nginx's error log, such as"),
        (&["--nginx-error-log", "/nonexistent/log"], 1, "cannot read /nonexistent/log"),
        (&["oom_killed", "--json"], 2, "--json goes with"),
        (&["99999999999999999999999"], 2, "64 bits"),
        (&["7"], 1, "no agent listens"),
    ] {
        let ended = explain(arguments)?;
        ensure!(ended.code == Some(code), "{arguments:?}: {ended:?}");
        ensure!(ended.stderr.lines().count() == 1 && ended.stderr.contains(what), "{arguments:?}: {ended:?}");
    }
    // Without an agent the log still speaks for itself.
    std::fs::write(
        &file,
        "2026/11/21 12:03:07 [error] 8#8: *1 no live upstreams while connecting to upstream, client: ::1\n",
    )?;
    let ended = explain(&["--nginx-error-log", &name])?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("no agent listens"), "{ended:?}");
    ensure!(ended.stdout.contains("every server of the group had failed"), "{ended:?}");
    Ok(())
}

#[test]
fn each_attempt_in_the_access_log_of_nginx_gets_its_verdict() -> Result<()> {
    let mut stage = Stage::set()?;
    stage.break_all()?;
    let (serving, frozen, nobody) = (&*stage.serving, &*stage.frozen, &*stage.nobody);
    let expected = [
        (nobody, "bad_gateway", "no_listener"),
        (serving, "bad_gateway", "closed_without_response"),
        (serving, "bad_gateway", "reset_without_response"),
        (nobody, "bad_gateway", "no_listener"),
        (nobody, "bad_gateway", "no_listener"),
        (frozen, "gateway_timeout", "never_accepted"),
        ("-", "no_upstream", "-"),
        (serving, "bad_gateway", "process_crashed"),
    ];
    let (lines, total) = stage.explain_json(&["--nginx-access-log", &stage.file("named.log")])?;
    expect(&stories(&lines), &expected)?;
    ensure!(total["joined"] == 7 && total["log_alone"] == 1 && total["advice"].is_null(), "{total}");
    let own =
        "$remote_addr [$time_local] \"$request\" $status $upstream_addr | $upstream_status | $request_time";
    let (lines, _) =
        stage.explain_json(&["--nginx-access-log", &stage.file("own.log"), "--log-format", own])?;
    expect(&stories(&lines), &expected)?;
    // No upstream: one line a request, and the time alone. Other tests break gateways at the same time.
    let netns = stage.net.gateway().path();
    let log = stage.file("combined.log");
    let (lines, total) =
        stage.explain_json(&["--nginx-access-log", &log, "--netns", &netns.to_string_lossy()])?;
    ensure!(lines.len() == 7 && lines.iter().all(|line| line["upstream"].is_null()), "{lines:?}");
    ensure!(total["joined_by_time"] == total["joined"], "{total}");
    let frozen_line = lines.iter().find(|line| line["class"] == "gateway_timeout").context("no 504")?;
    let told = stage.agent.seen().iter().find(|line| line.json["upstream"] == frozen).map(|line| &line.json);
    ensure!(frozen_line["verdict"]["upstream"] == frozen, "{frozen_line}, and the agent told {told:?}");
    ensure!(total["advice"].as_str().is_some_and(|advice| advice.contains("$upstream_addr")), "{total}");
    Ok(())
}
