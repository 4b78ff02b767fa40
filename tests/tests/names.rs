//! The names of upstreams: real gateways, whose configuration is read while they run. Their upstream refuses, so each
//! request gives a verdict.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::{Agent, binary, free_port};
use rstrace_tests::client::Request;
use rstrace_tests::netns::{Family, Link, Net, unique_port};
use rstrace_tests::nginx::Nginx;
use rstrace_tests::process::{Guarded, copy_program, poll, run_within};
use serde_json::Value;

/// The agent looks every 10 s, and again soon after it met a worker that it does not know.
const NOTICED: Duration = Duration::from_secs(30);

/// Dials until a verdict on `upstream` has this name, and gives it.
fn named(
    agent: &mut Agent,
    upstream: SocketAddr,
    name: &str,
    mut dial: impl FnMut() -> Result<()>,
) -> Result<Value> {
    let deadline = Instant::now() + NOTICED;
    let upstream = upstream.to_string();
    loop {
        agent.forget();
        dial()?;
        let about = |line: &Value| line["upstream"] == upstream.as_str();
        let line = agent.wait_for(&upstream, Duration::from_secs(10), about)?.json;
        if line["upstream_name"] == name {
            return Ok(line);
        }
        if Instant::now() > deadline {
            bail!("no name {name:?}, but {} of {}: {}", line["upstream_name"], upstream, agent.stderr());
        }
    }
}

/// A request through the gateway, which it cannot pass on.
fn request(net: &Net, gateway: SocketAddr) -> Result<()> {
    let outcome =
        Request::start(net.gateway(), &[&format!("http://{gateway}/")])?.finish(Duration::from_secs(10))?;
    ensure!(matches!(outcome.status, 502 | 503), "{outcome:?}");
    Ok(())
}

/// The report says where what refuses is registered.
fn reported_as_stale(agent: &Agent, upstream: SocketAddr, place: &str) -> Result<()> {
    let report = |more: &[&str]| {
        let mut command = Command::new(binary()?);
        command.arg("report").args(["--upstream", &upstream.to_string()]).args(more);
        command.arg("--socket").arg(agent.socket());
        let ended = run_within(&mut command, Duration::from_secs(20))?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(ended.stdout)
    };
    let json: Value = serde_json::from_str(&report(&["--json"])?)?;
    let stale = json["stale"].as_array().context("no stale upstreams")?;
    let stale = stale.iter().find(|stale| stale["upstream"] == upstream.to_string()).context("not stale")?;
    ensure!(stale["registration"]["name"] == "api", "{stale}");
    let page = report(&[])?;
    // It is wrapped.
    let unfolded: String = page.split_whitespace().collect();
    let words = format!("staleregistration:itisserver{upstream}ofupstreamapiin{place}");
    ensure!(unfolded.contains(&words), "no {words:?} in\n{page}");
    Ok(())
}

#[test]
fn nginx_names_its_upstreams_through_reloads_and_broken_files() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let (upstream, gateway) = (net.free_upstream(), SocketAddr::new(net.gateway_ip(), unique_port()));
    let http = |name: &str| {
        format!(
            "upstream {name} {{\n server {upstream} weight=5 max_fails=0;\n}}\n\
             server {{ listen {gateway}; location / {{ proxy_pass http://{name}; }} }}"
        )
    };
    let nginx = Nginx::start_with(net.gateway(), gateway, &http("api"))?;
    let mut agent = Agent::start(true)?;
    let dial = || request(&net, gateway);
    let line = named(&mut agent, upstream, "api", dial)?;
    let registration = &line["registration"];
    ensure!(registration["gateway"] == "nginx" && registration["name"] == "api", "{line}");
    ensure!(registration["weight"] == 5 && registration["state"] == "active", "{line}");
    let file = registration["file"].as_str().unwrap_or_default();
    ensure!(file.ends_with("/nginx.conf") && registration["line"].as_u64() > Some(2), "{line}");
    ensure!(line["cause"] == "no_listener", "{line}");
    let (summary, place) = (line["summary"].to_string(), format!("{file}:{}", registration["line"]));
    ensure!(summary.contains("stale registration") && summary.contains(&place), "{summary}");
    ensure!(line["evidence"].to_string().contains("stale registration: it is server"), "{line}");
    reported_as_stale(&agent, upstream, &place)?;

    nginx.rewrite(&http("api_v2"))?;
    nginx.reload();
    named(&mut agent, upstream, "api_v2", dial)?;

    nginx.rewrite("upstream api_v3 {\n server 10.0.0.1:1\n")?;
    let said = "names of upstreams: the configuration of nginx";
    agent.logs(said)?;
    named(&mut agent, upstream, "api_v2", dial)?;
    let mine = agent.stderr();
    let mine: Vec<_> = mine.lines().filter(|line| line.contains(said) && line.contains(file)).collect();
    ensure!(mine.len() == 1, "{mine:?}");
    let servers = agent.scrape()?.sum("rstrace_table_entries", &[("table", "configured_servers")]);
    ensure!(servers >= 1.0, "{servers} configured servers");

    doctor_shows(nginx.pid(), file)
}

fn doctor_shows(pid: u32, file: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(binary()?);
    command.args(["doctor", "--json", "--socket"]).arg(folder.path().join("nobody.sock"));
    let ended = run_within(&mut command, Duration::from_secs(60))?;
    let report: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    let gateways = report["gateways"].as_array().context("no gateways")?;
    let gateway = gateways.iter().find(|gateway| gateway["pid"] == pid).context("not this nginx")?;
    ensure!(gateway["gateway"] == "nginx" && gateway["files"][0] == file, "{gateway}");
    let fault = gateway["faults"][0].as_str().unwrap_or_default();
    ensure!(fault.starts_with(file), "{gateway}");
    Ok(())
}

#[test]
fn haproxy_names_backend_and_server() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let (upstream, gateway) = (net.free_upstream(), SocketAddr::new(net.gateway_ip(), unique_port()));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "defaults\n mode http\n retries 0\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             frontend clients\n bind {gateway}\n default_backend servers\n\
             backend servers\n server web-1 {upstream} weight 7 # the one\n"
        ),
    )?;
    let mut command = net.gateway().command("haproxy")?;
    command
        .args(["-W", "-db", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _haproxy = Guarded::spawn(&mut command)?;
    poll("haproxy to listen", Duration::from_secs(20), || request(&net, gateway).ok())?;
    let mut agent = Agent::start(true)?;
    let line = named(&mut agent, upstream, "servers/web-1", || request(&net, gateway))?;
    let registration = &line["registration"];
    ensure!(registration["gateway"] == "haproxy" && registration["weight"] == 7, "{line}");
    ensure!(registration["file"] == file.to_string_lossy().as_ref() && registration["line"] == 11, "{line}");
    let words = format!("it is server web-1 ({upstream}) of backend servers in {}:11", file.display());
    ensure!(line["summary"].to_string().contains(&words), "{line}");
    Ok(())
}

/// No Envoy can be had here: a script that has its name and its words, and an answer of its admin endpoint.
#[test]
fn envoy_names_its_clusters_by_its_admin_endpoint() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = free_port()?;
    let clusters = format!(
        r#"{{"cluster_statuses":[{{"name":"payments","host_statuses":[{{"address":{{"socket_address":{{"address":"{}",
        "port_value":{}}}}},"weight":3,"health_status":{{"eds_health_status":"HEALTHY"}}}}]}}]}}"#,
        upstream.ip(),
        upstream.port()
    );
    let admin = TcpListener::bind(("127.0.0.1", 0))?;
    let address = admin.local_addr()?;
    std::thread::spawn(move || {
        admin.incoming().flatten().for_each(|stream| drop(answer(&stream, &clusters)));
    });
    let _envoy = play_envoy(folder.path(), address)?;
    let mut agent = Agent::start(true)?;
    let line = named(&mut agent, upstream, "payments", || match TcpStream::connect(upstream) {
        Err(_) => Ok(()),
        Ok(_) => bail!("{upstream} did not refuse"),
    })?;
    let registration = &line["registration"];
    ensure!(registration["gateway"] == "envoy" && registration["weight"] == 3, "{line}");
    ensure!(
        registration["file"] == format!("http://{address}/clusters") && registration["line"].is_null(),
        "{line}"
    );
    Ok(())
}

fn play_envoy(folder: &Path, admin: SocketAddr) -> Result<Guarded> {
    let (program, file) = (folder.join("envoy"), folder.join("envoy.yaml"));
    let written = folder.join("written");
    fs::write(&written, "#!/bin/sh\nread -r _\n")?;
    copy_program(&written, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(
        &file,
        format!(
            "admin:\n  address:\n    socket_address:\n      address: {}\n      port_value: {}\n",
            admin.ip(),
            admin.port()
        ),
    )?;
    // It waits for a line that never comes.
    Guarded::spawn(Command::new(program).arg("-c").arg(file).stdin(Stdio::piped()))
}

/// The answer to one request, in chunks as Envoy sends it.
fn answer(mut stream: &TcpStream, clusters: &str) -> std::io::Result<()> {
    let head = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let head: Vec<String> = head.collect();
    let is_asked = head.iter().any(|line| line.starts_with("GET /clusters?format=json HTTP/1.1"));
    let status = if is_asked { "200 OK" } else { "404 Not Found" };
    let size = clusters.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{clusters}\r\n0\r\n\r\n"
    )
}
