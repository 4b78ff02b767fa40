//! Who it is in the words of Kubernetes: processes in real cgroups that are called as container runtimes call theirs,
//! and a folder that has the names which a kubelet leaves in /var/log. There is no kubelet and no API server.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::cgroup::NamedCgroup;
use rstrace_tests::client::Request;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::nginx::{GatewayOptions, Nginx};
use rstrace_tests::process::{poll, run_within};
use rstrace_tests::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;

const API_UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";
const EDGE_UID: &str = "5b0d3a52-11d4-4a7c-8f7e-8a6f3f1f2c90";
const DB_UID: &str = "9e6c1b1a-90a4-4f0b-8d53-6f0c2f7d4e21";
/// Of no pod that has files: the agents of all tests see every process of this host.
const UNKNOWN_UID: &str = "c4f6f9d2-7f0e-4d3b-a8e5-1b2c3d4e5f60";
const API: &str = "api-66b6c48dd5-gz5nx";
const EDGE: &str = "edge-x7x8k";

/// An id of a container that consists of one pair of digits.
fn id(pair: &str) -> String {
    pair.repeat(32)
}

/// What a kubelet leaves of three pods.
fn node() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (pod, containers) in [
        (format!("shop_{API}_{API_UID}"), &["php-fpm", "sidecar"][..]),
        (format!("ingress_{EDGE}_{EDGE_UID}"), &["nginx"][..]),
        (format!("shop_db-0_{DB_UID}"), &["postgres"][..]),
    ] {
        for container in containers {
            fs::create_dir_all(folder.path().join("pods").join(&pod).join(container))?;
        }
    }
    fs::create_dir(folder.path().join("containers"))?;
    let link = format!("{API}_shop_php-fpm-{}.log", id("ab"));
    symlink("/nowhere", folder.path().join("containers").join(link))?;
    Ok(folder)
}

/// A server in this cgroup crashes on a request of a gateway in that one; gives the verdict.
fn crash(agent: &mut Agent, gateway: &NamedCgroup, upstream: &NamedCgroup) -> Result<Value> {
    let net = Net::create(Link::Veth, Family::V4)?;
    let address = net.free_upstream();
    let server = Server::start_in(net.upstream(), address, upstream)?;
    let nginx = Nginx::start(
        net.gateway(),
        net.gateway_ip(),
        address,
        net.free_upstream(),
        &GatewayOptions::default(),
    )?;
    for worker in nginx.worker_pids() {
        gateway.add(*worker)?;
    }
    let outcome = Request::start(net.gateway(), &[&nginx.url("/segv")])?.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    let pid = server.pid();
    let about = |line: &Value| line["upstream"] == address.to_string().as_str();
    let line = agent.wait_for("the crash", Duration::from_secs(20), about)?.json;
    ensure!(line["cause"] == "process_crashed" && line["culprit"]["pid"] == pid, "{line}");
    Ok(line)
}

#[test]
fn owner_and_culprit_are_told_by_pod_container_and_workload() -> Result<()> {
    let node = node()?;
    let logs = node.path().join("pods");
    let mut agent = Agent::start_with(&["--pod-logs", &logs.to_string_lossy()])?;

    // As the cgroupfs driver names them, and as systemd does.
    let edge = NamedCgroup::create(&format!("kubepods/besteffort/pod{EDGE_UID}/{}", id("ef")))?;
    let slice = format!("kubepods-burstable-pod{}.slice", API_UID.replace('-', "_"));
    let api = NamedCgroup::create(&format!("kubepods.slice/{slice}/cri-containerd-{}.scope", id("ab")))?;
    let line = crash(&mut agent, &edge, &api)?;
    let culprit = json!({"namespace": "shop", "name": API, "uid": API_UID, "container": "php-fpm",
        "workload": "deployment/api"});
    ensure!(line["culprit"]["pod"] == culprit, "{line}");
    ensure!(line["culprit"]["container"] == id("ab").as_str(), "{line}");
    // A DaemonSet's pod is called as others may be.
    let owner = json!({"namespace": "ingress", "name": EDGE, "uid": EDGE_UID, "container": "nginx",
        "workload": null});
    ensure!(line["owner"]["pod"] == owner, "{line}");
    let summary = line["summary"].as_str().unwrap_or_default();
    ensure!(summary.ends_with(&format!("] is of pod shop/{API}")), "{summary}");

    let db = NamedCgroup::create(&format!("kubepods/pod{DB_UID}/{}", id("cd")))?;
    let line = crash(&mut agent, &edge, &db)?;
    ensure!(line["culprit"]["pod"]["workload"] == "statefulset/db", "{line}");
    ensure!(line["culprit"]["pod"]["container"] == "postgres", "{line}");

    let socket = agent.socket();
    let past = |pod: &str| {
        let mut command = Command::new(binary()?);
        command.args(["watch", "--since", "10m", "--until", "1ms", "--pod", pod, "--socket"]).arg(&socket);
        let ended = run_within(&mut command, Duration::from_secs(20))?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(ended.stdout.lines().filter(|line| line.contains("process_crashed")).count())
    };
    ensure!(past("ingress/edge")? == 2 && past("shop/")? == 2, "the owner, and the culprit");
    ensure!(past("api")? == 1 && past("shop/db-0")? == 1 && past("shop/x")? == 0, "by name");
    // Told once a second.
    poll("the containers on /metrics", Duration::from_secs(20), || {
        let known = agent.scrape().ok()?.sum("rstrace_table_entries", &[("table", "pods")]);
        (known >= 3.0).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_pod_without_files_has_its_uid_and_no_names() -> Result<()> {
    let nowhere = tempfile::tempdir()?;
    let mut agent = Agent::start_with(&["--pod-logs", &nowhere.path().join("pods").to_string_lossy()])?;
    let edge = NamedCgroup::create(&format!("kubepods/pod{UNKNOWN_UID}/{}", id("12")))?;
    let api = NamedCgroup::create(&format!("kubepods/pod{UNKNOWN_UID}/{}", id("34")))?;
    let line = crash(&mut agent, &edge, &api)?;
    let nameless =
        json!({"namespace": null, "name": null, "uid": UNKNOWN_UID, "container": null, "workload": null});
    ensure!(line["culprit"]["pod"] == nameless, "{line}");
    ensure!(!line["summary"].to_string().contains("is of pod"), "{line}");
    Ok(())
}
