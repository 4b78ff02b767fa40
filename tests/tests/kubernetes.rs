//! `deploy/kubernetes`: valid for the versions that clusters run, no more rights than are needed, and enough of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::capabilities::{THREE, mask, threads};
use rstrace_tests::cgroup::NamedCgroup;
use rstrace_tests::container::static_binary;
use rstrace_tests::manifests::{
    KUSTOMIZATIONS, container, documents, items, only, prometheus_rule, python_program, rendered,
};
use rstrace_tests::netns::{Family, Link, Net, require_root};
use rstrace_tests::process::{Gathered, Guarded, poll, run_within};
use rstrace_tests::scrape::get;
use serde_json::Value;

/// From the first with `appArmorProfile` to the newest whose schemas are pinned.
const VERSIONS: &[&str] = &["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];
/// The node's address: one of loopback that no other test takes.
const NODE: &str = "127.83.9.1";
const READY: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn every_kustomization_is_valid_for_many_versions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for kustomization in KUSTOMIZATIONS {
        let yaml = rendered(kustomization)?;
        let file = folder.path().join(format!("{}.yaml", kustomization.replace('/', "-")));
        let own = documents(&yaml)?.into_iter().filter(|document| !of_the_operator(document));
        let own: Vec<String> = own.map(|document| format!("{document}\n")).collect();
        // JSON is YAML.
        std::fs::write(&file, own.join("---\n"))?;
        let count = own.len();
        for version in VERSIONS {
            let mut validate = Command::new(python_program("kubernetes-validate")?);
            validate.args(["--strict", "-k", version]).arg(&file);
            let checked = run_within(&mut validate, LIMIT)?;
            let text = format!("{}{}", checked.stdout, checked.stderr);
            ensure!(checked.code == Some(0), "{kustomization} with {version}: {text}");
            let passed = text.lines().filter(|line| line.contains(" passed for resource ")).count();
            ensure!(passed == count, "{kustomization} with {version}: {passed} of {count}: {text}");
        }
    }
    Ok(())
}

#[test]
fn the_base_gives_the_three_and_no_more() -> Result<()> {
    let documents = documents(&rendered("base")?)?;
    let daemonset = only(&documents, "DaemonSet")?;
    ensure!(mask(&container(daemonset, NODE)?.capabilities) == mask(THREE), "{daemonset}");
    let pod = &daemonset["spec"]["template"]["spec"];
    for (key, value) in [("hostPID", true), ("hostNetwork", true), ("automountServiceAccountToken", false)] {
        ensure!(pod[key] == value, "{key} is {}", pod[key]);
    }
    // What the host lends may only be read.
    for mount in items(&pod["containers"][0]["volumeMounts"])? {
        let volume = items(&pod["volumes"])?.iter().find(|volume| volume["name"] == mount["name"]);
        let host = volume.is_some_and(|volume| volume["hostPath"].is_object());
        ensure!(!host || mount["readOnly"] == true, "{mount}");
    }
    // Lower levels of pod security would refuse the pod.
    let namespace = &only(&documents, "Namespace")?["metadata"]["labels"];
    ensure!(namespace["pod-security.kubernetes.io/enforce"] == "privileged", "{namespace}");
    let image = pod["containers"][0]["image"].as_str().context("no image")?;
    let workspace = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))?;
    let version = workspace.lines().find_map(|line| line.strip_prefix("version = ")).context("no version")?;
    ensure!(image.ends_with(&format!(":{}", version.trim_matches('"'))), "{image}, not {version}");
    Ok(())
}

#[test]
fn the_overlay_changes_what_it_says_and_nothing_else() -> Result<()> {
    let base = documents(&rendered("base")?)?;
    let privileged = documents(&rendered("overlays/privileged")?)?;
    let rights = "/spec/template/spec/containers/0/securityContext";
    let mut expected = base.clone();
    for document in expected.iter_mut().filter(|document| document["kind"] == "DaemonSet") {
        *document.pointer_mut(rights).context("no rights")? = serde_json::json!({
            "privileged": true, "readOnlyRootFilesystem": true, "runAsUser": 0, "runAsGroup": 0,
        });
    }
    ensure!(privileged == expected, "{privileged:#?}");
    Ok(())
}

#[test]
fn the_overlay_for_names_may_read_them_and_no_more() -> Result<()> {
    let enrich = documents(&rendered("overlays/enrich")?)?;
    let mut read = Vec::new();
    for rule in items(&only(&enrich, "ClusterRole")?["rules"])? {
        ensure!(rule["verbs"] == serde_json::json!(["list", "watch"]), "{rule}");
        read.extend(items(&rule["resources"])?.iter().filter_map(Value::as_str));
    }
    ensure!(read == ["pods", "services", "endpointslices"], "{read:?}");
    let (subject, account) =
        (&only(&enrich, "ClusterRoleBinding")?["subjects"][0], only(&enrich, "ServiceAccount")?);
    for key in ["name", "namespace"] {
        ensure!(subject[key] == account["metadata"][key], "{subject} is not {account}");
    }
    let daemonset = only(&enrich, "DaemonSet")?;
    let pod = &daemonset["spec"]["template"]["spec"];
    ensure!(pod["serviceAccountName"] == account["metadata"]["name"], "{pod}");
    ensure!(pod["automountServiceAccountToken"] == true, "{pod}");
    let given = container(daemonset, NODE)?;
    ensure!(given.arguments.ends_with(&["--kubernetes".to_owned()]), "{given:?}");
    ensure!(given.environment.contains(&("NODE_NAME".to_owned(), "node-1".to_owned())), "{given:?}");
    // What asks conntrack has one capability more.
    let mut expected = enrich.clone();
    for document in expected.iter_mut().filter(|document| document["kind"] == "DaemonSet") {
        let added = document.pointer_mut("/spec/template/spec/containers/0/securityContext/capabilities/add");
        let added = added.and_then(Value::as_array_mut).context("no capabilities")?;
        added.push("NET_ADMIN".into());
    }
    let conntrack = documents(&rendered("overlays/enrich-conntrack")?)?;
    ensure!(conntrack == expected, "{conntrack:#?}");
    Ok(())
}

/// Kinds that Kubernetes itself does not know.
fn of_the_operator(document: &Value) -> bool {
    document["apiVersion"].as_str().is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
}

/// The operator is not here, nor are its definitions: the PodMonitor is held to a schema of our own, and the rules are
/// those that promtool and a real Prometheus take in other tests.
#[test]
fn the_rules_of_the_operator_are_those_of_prometheus() -> Result<()> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let file = deploy.join("kubernetes/components/prometheus-operator/prometheusrule.yaml");
    let made = prometheus_rule()?;
    if std::env::var_os("RSTRACE_WRITE").is_some() {
        std::fs::write(&file, &made)?;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    ensure!(
        kept == made,
        "{} is older than deploy/prometheus; its first lines say what to do",
        file.display()
    );

    let overlay = documents(&rendered("overlays/prometheus-operator")?)?;
    let rule = only(&overlay, "PrometheusRule")?;
    let mut groups = Vec::new();
    for name in ["rules.yaml", "alerts.yaml"] {
        let text = std::fs::read_to_string(deploy.join("prometheus").join(name))?;
        groups.extend(items(&documents(&text)?[0]["groups"])?.to_vec());
    }
    ensure!(rule["spec"]["groups"] == Value::from(groups), "{rule}");
    let dashboard = only(&overlay, "ConfigMap")?;
    ensure!(dashboard["metadata"]["labels"]["grafana_dashboard"] == "1", "{}", dashboard["metadata"]);
    let text = std::fs::read_to_string(deploy.join("grafana/rstrace.json"))?;
    ensure!(dashboard["data"]["rstrace.json"] == text.as_str(), "another dashboard");
    ensure!(overlay.iter().all(|document| {
        let namespace = &document["metadata"]["namespace"];
        document["kind"] == "Namespace" || document["kind"] == "PriorityClass" || namespace == "rstrace"
    }));
    Ok(())
}

#[test]
fn the_pod_monitor_finds_the_port_of_the_agent() -> Result<()> {
    const CHECK: &str = "import json, sys, jsonschema; \
        jsonschema.validate(json.loads(sys.argv[2]), json.load(open(sys.argv[1])))";
    let overlay = documents(&rendered("overlays/prometheus-operator")?)?;
    let monitor = only(&overlay, "PodMonitor")?;
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kubernetes/podmonitor.schema.json");
    let mut python = Command::new(python_program("python")?);
    let checked = run_within(python.args(["-c", CHECK, schema, &monitor.to_string()]), LIMIT)?;
    ensure!(checked.code == Some(0), "{checked:?}");
    let template = &only(&overlay, "DaemonSet")?["spec"]["template"];
    for (key, value) in monitor["spec"]["selector"]["matchLabels"].as_object().context("no labels")? {
        ensure!(template["metadata"]["labels"][key] == *value, "{key} is not {value} in {template}");
    }
    let ports = items(&template["spec"]["containers"][0]["ports"])?;
    let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
    ensure!(ports.iter().any(|known| known["name"] == *port), "no port {port}");
    Ok(())
}

/// The probe's answer, as a kubelet asks: the pod's address is the node's.
fn probe(container: &Value, name: &str) -> Result<(u16, String)> {
    let request = &container[name]["httpGet"];
    let port = items(&container["ports"])?.iter().find(|port| port["name"] == request["port"]);
    let port = port.with_context(|| format!("{request} names no port"))?;
    let port = u16::try_from(port["containerPort"].as_u64().context("no number")?)?;
    get(SocketAddr::new(NODE.parse()?, port), request["path"].as_str().context("no path")?)
}

/// The image's program with what the DaemonSet gives to it: its arguments, capabilities and mounts, and nothing else.
#[test]
fn image_works_with_what_the_daemonset_gives() -> Result<()> {
    require_root()?;
    let documents = documents(&rendered("base")?)?;
    let daemonset = only(&documents, "DaemonSet")?;
    let (own, gateways) = (NamedCgroup::unified()?, NamedCgroup::unified()?);
    let mut given = container(daemonset, NODE)?;
    ensure!(given.read_only_root, "the root is not read-only");
    given.cgroup = Some(own.folder().into());
    let mut prepared = given.prepare(&static_binary()?)?;
    prepared.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut agent = Guarded::spawn(&mut prepared.command)?;
    let stderr = Gathered::of(agent.child().stderr.take().context("it is piped")?);
    let pod = &daemonset["spec"]["template"]["spec"]["containers"][0];
    let answers = |name: &str| probe(pod, name).ok().filter(|(status, _)| *status == 200);
    poll("the start-up probe", READY, || answers("startupProbe")).with_context(|| stderr.text())?;
    for name in ["livenessProbe", "readinessProbe"] {
        let (status, body) = probe(pod, name)?;
        ensure!(status == 200, "{name}: {status} {body}");
    }
    for thread in threads(agent.pid())? {
        ensure!(thread.permitted == mask(THREE) && thread.bounding == mask(THREE), "{thread:?}");
    }
    let root = PathBuf::from(format!("/proc/{}/root", agent.pid()));
    let written = std::fs::write(root.join("x"), "x").map_err(|error| error.raw_os_error());
    ensure!(written == Err(Some(libc::EROFS)), "its root can be written: {written:?}");

    // As `kubectl exec … -- /rstrace watch` would.
    let socket = root.join("run/rstrace/rstrace.sock");
    let mut watch = Agent::watch(&["--socket", &socket.to_string_lossy()])?;
    let net = Net::create(Link::Veth, Family::V4)?;
    let upstream = net.free_upstream();
    watch.sees_a_refusal(net.gateway(), upstream, LIMIT)?;

    // The paths of cgroups are the node's, not relative to the agent's own.
    let other = net.free_upstream();
    let join = format!("echo $$ >{}", gateways.processes().display());
    let dial = format!("true </dev/tcp/{}/{}", other.ip(), other.port());
    let mut shell = net.gateway().command("bash")?;
    // It lives until its input ends, so that there is a /proc/PID/cgroup of it to be read.
    shell.args(["-c", &format!("{join}; {dial}; read x")]);
    let mut shell = Guarded::spawn(shell.stdin(Stdio::piped()).stderr(Stdio::null()))?;
    let verdict =
        watch.wait_for("the shell's connect", LIMIT, |line| line["upstream"] == other.to_string())?;
    ensure!(verdict.json["owner"]["cgroup"] == format!("/{}", gateways.name()), "{}", verdict.json);
    drop(shell.child().stdin.take());
    shell.wait(LIMIT)?;
    agent.signal(libc::SIGTERM);
    let status = agent.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", stderr.text());
    Ok(())
}
