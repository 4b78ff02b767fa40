//! `deploy/Dockerfile`: built for real from a program that was built outside, and the program at work in a root that
//! has nothing else in it.
//!
//! The Dockerfile's first stage, which compiles, is not run: no registry can be reached from where these tests run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, free_port};
use rstrace_tests::capabilities::THREE;
use rstrace_tests::container::{Container, static_binary};
use rstrace_tests::netns::{Family, Link, Net, require_root};
use rstrace_tests::process::{Gathered, Guarded, poll, run, run_within};
use serde_json::Value;

const READY: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(120);

/// buildah with a store of its own, so that nothing of this machine's is touched.
fn buildah(store: &Path) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
    command.args(["--storage-driver", "vfs"]);
    command
}

/// Builds the image and unpacks it; gives its configuration.
fn build(store: &Path, unpacked: &Path) -> Result<Value> {
    let outside = store.join("build");
    std::fs::create_dir(&outside)?;
    std::fs::copy(static_binary()?, outside.join("rstrace"))?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = buildah(store);
    command.args(["build", "--isolation", "chroot", "--file"]).arg(workspace.join("deploy/Dockerfile"));
    command.arg(format!("--build-context=build={}", outside.display()));
    let built = run_within(command.args(["--tag", "rstrace:test"]).arg(&workspace), LIMIT)?;
    ensure!(built.code == Some(0), "{built:?}");
    let layout = store.join("layout");
    let mut push = buildah(store);
    let pushed =
        run_within(push.args(["push", "rstrace:test"]).arg(format!("oci:{}", layout.display())), LIMIT)?;
    ensure!(pushed.code == Some(0), "{pushed:?}");
    let blob = |digest: &Value| -> Result<_> {
        let digest =
            digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).context("no digest")?;
        Ok(layout.join("blobs/sha256").join(digest))
    };
    let json = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(&index["manifests"][0]["digest"])?)?;
    for layer in manifest["layers"].as_array().context("no layers")? {
        run(Command::new("tar").arg("-xzf").arg(blob(&layer["digest"])?).arg("-C").arg(unpacked))?;
    }
    json(&blob(&manifest["config"]["digest"])?)
}

#[test]
fn image_holds_one_program_that_works_alone() -> Result<()> {
    require_root()?;
    let store = tempfile::tempdir()?;
    let root = tempfile::Builder::new().prefix("rstrace-container-").tempdir()?;
    let configured = build(store.path(), root.path())?;
    ensure!(configured["config"]["Entrypoint"] == serde_json::json!(["/rstrace"]), "{configured}");
    ensure!(configured["config"]["Cmd"] == serde_json::json!(["agent"]), "{configured}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.path())? {
        files.push(entry?.file_name());
    }
    ensure!(files == ["rstrace"], "the image holds {files:?}");

    // Nothing of the host but processes, network, /proc and /sys; the root may be written, as runtimes have it.
    let listen = free_port()?;
    let alone = Container {
        arguments: ["agent", "--listen", &listen.to_string()].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        capabilities: THREE.to_vec(),
        mounts: Vec::new(),
        read_only_root: false,
        cgroup: None,
    };
    let mut prepared = alone.prepare_in(root)?;
    prepared.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut agent = Guarded::spawn(&mut prepared.command)?;
    let stderr = Gathered::of(agent.child().stderr.take().context("it is piped")?);
    let ready = || rstrace_tests::scrape::get(listen, "/readyz").ok().filter(|(status, _)| *status == 200);
    poll("the agent to be ready", READY, ready).with_context(|| stderr.text())?;

    let socket = format!("/proc/{}/root/run/rstrace/rstrace.sock", agent.pid());
    let mut watch = Agent::watch(&["--socket", &socket])?;
    let hooks = watch.ready["hooks"].as_array().context("no hooks")?;
    let attached = hooks.iter().filter(|hook| hook["attached"] == true).count();
    ensure!(attached > 5, "{hooks:?}");
    let net = Net::create(Link::Veth, Family::V4)?;
    let upstream = net.free_upstream();
    watch.sees_a_refusal(net.gateway(), upstream, LIMIT)?;
    agent.signal(libc::SIGTERM);
    let status = agent.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", stderr.text());
    Ok(())
}
