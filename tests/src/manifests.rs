//! `deploy/kubernetes`, as `kubectl kustomize` renders it, and what its DaemonSet gives to a container.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::capabilities::{BPF, PERFMON, SYS_PTRACE};
use crate::container::{Container, Mount};

/// What may be applied, relative to `deploy/kubernetes`.
pub const KUSTOMIZATIONS: &[&str] = &[
    "base",
    "overlays/privileged",
    "overlays/enrich",
    "overlays/enrich-conntrack",
    "overlays/prometheus-operator",
];

/// A program of the tests' own Python environment, which `cargo xtask setup --test` makes.
///
/// # Errors
/// When it is not there.
pub fn python_program(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/python/bin").join(name);
    ensure!(path.exists(), "{} is missing: cargo xtask setup --test", path.display());
    Ok(path)
}

/// The YAML that `kubectl kustomize` makes of a folder.
///
/// # Errors
/// When kubectl is missing or has something to say.
pub fn rendered(kustomization: &str) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes").join(kustomization);
    let mut kubectl = Command::new("kubectl");
    let output = kubectl.arg("kustomize").arg(&folder).output().context("run kubectl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", folder.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// The documents of a YAML text.
///
/// # Errors
/// When it is none.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    const CONVERT: &str =
        "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let mut python = Command::new(python_program("python")?);
    python.args(["-c", CONVERT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn()?;
    // Its end closes the pipe.
    child.stdin.take().context("it is piped")?.write_all(yaml.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "python cannot read the YAML, see above");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The text of `prometheusrule.yaml`: the files of Prometheus, which has no place for them in its own form.
///
/// # Errors
/// When one cannot be read, or is more than groups.
pub fn prometheus_rule() -> Result<String> {
    let mut text = String::from(RULE_HEAD);
    for name in ["rules.yaml", "alerts.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus").join(name);
        let file = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let (_, groups) = file.split_once("\ngroups:\n").with_context(|| format!("{name} has no groups"))?;
        for line in groups.lines() {
            ensure!(line.is_empty() || line.starts_with(' '), "{name}: {line} is beside the groups");
            text.push_str(if line.is_empty() { "" } else { "  " });
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

const RULE_HEAD: &str = "\
# Made of deploy/prometheus/rules.yaml and alerts.yaml, by
# RSTRACE_WRITE=1 cargo test -p rstrace-tests --test kubernetes the_rules_of_the_operator_are_those_of_prometheus
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: rstrace
  labels:
    app.kubernetes.io/name: rstrace
spec:
  groups:
";

/// The one document of a kind.
///
/// # Errors
/// When there is none, or more than one.
pub fn only<'a>(documents: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(document), None) => Ok(document),
        _ => bail!("not exactly one {kind}"),
    }
}

/// What the DaemonSet gives to its one container on a node with this address.
///
/// # Errors
/// When it has something that this does not know how to give.
pub fn container(daemonset: &Value, node: &str) -> Result<Container> {
    let pod = &daemonset["spec"]["template"]["spec"];
    let [container] = items(&pod["containers"])? else { bail!("not exactly one container") };
    let environment = environment(container, node)?;
    let mut arguments = Vec::new();
    for argument in items(&container["args"])? {
        let mut argument = text(argument)?.to_owned();
        for (name, value) in &environment {
            argument = argument.replace(&format!("$({name})"), value);
        }
        ensure!(!argument.contains("$("), "{argument} names no variable of the container");
        arguments.push(argument);
    }
    let rights = &container["securityContext"];
    for (key, value) in [("privileged", false), ("allowPrivilegeEscalation", false)] {
        ensure!(rights[key] == value, "{key} is {}", rights[key]);
    }
    ensure!(rights["runAsUser"] == 0, "{rights}");
    ensure!(*items(&rights["capabilities"]["drop"])? == ["ALL"], "{rights}");
    let mut capabilities = Vec::new();
    for name in items(&rights["capabilities"]["add"])? {
        capabilities.push(match text(name)? {
            "BPF" => BPF,
            "PERFMON" => PERFMON,
            "SYS_PTRACE" => SYS_PTRACE,
            other => bail!("{other} is none of the three"),
        });
    }
    Ok(Container {
        arguments,
        environment,
        capabilities,
        mounts: mounts(pod, container)?,
        read_only_root: rights["readOnlyRootFilesystem"] == true,
        cgroup: None,
    })
}

fn environment(container: &Value, node: &str) -> Result<Vec<(String, String)>> {
    let mut environment = Vec::new();
    for variable in items(&container["env"])? {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("status.hostIP") => node,
            Some("spec.nodeName") => "node-1",
            Some(other) => bail!("{other} is unknown here"),
            None => text(&variable["value"])?,
        };
        environment.push((text(&variable["name"])?.to_owned(), value.to_owned()));
    }
    Ok(environment)
}

fn mounts(pod: &Value, container: &Value) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for mount in items(&container["volumeMounts"])? {
        let at = text(&mount["mountPath"])?.to_owned();
        let volume = items(&pod["volumes"])?.iter().find(|volume| volume["name"] == mount["name"]);
        let volume = volume.with_context(|| format!("no volume for {mount}"))?;
        mounts.push(if volume["emptyDir"].is_object() {
            Mount::Empty { at }
        } else {
            let path = text(&volume["hostPath"]["path"])?.to_owned();
            Mount::Host { path, at, read_only: mount["readOnly"] == true }
        });
    }
    Ok(mounts)
}

/// The items of a list.
///
/// # Errors
/// When it is none.
pub fn items(list: &Value) -> Result<&[Value]> {
    list.as_array().map(Vec::as_slice).with_context(|| format!("{list} is no list"))
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}
