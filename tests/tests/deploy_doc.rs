//! `docs/deploy.md`: its commands for one machine, typed in their order by a shell, with the unit and the program that
//! they install.
//!
//! The shell has mounts and a network of its own, so that nothing of this machine changes. Its `systemctl` is a stand-in:
//! it starts the unit's command, with the unit's variables, and stops it. What the unit keeps from it is for
//! `service.rs`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::container::static_binary;
use rstrace_tests::netns::require_root;
use rstrace_tests::process::run_within;

const LIMIT: Duration = Duration::from_secs(300);

/// What cannot be typed here, by its beginning, and why.
const NOT_TYPED: &[(&str, &str)] = &[
    ("./dev image", "compiles the program that image.rs is given"),
    ("docker ", "no registry can be reached; image.rs builds the image"),
    ("kubectl apply ", "there is no cluster; kubernetes.rs renders and validates"),
    ("kubectl label ", "there is no cluster"),
    ("kubectl delete ", "there is no cluster"),
    ("kubectl -n rstrace ", "there is no cluster; kubernetes.rs asks an agent in a container"),
];

const SYSTEMCTL: &str = r#"#!/bin/sh
# A stand-in for systemd: see the test that wrote it.
unit=/etc/systemd/system/rstrace.service
start() {
    set -a; . /etc/default/rstrace; set +a
    timeout -s KILL 250 $(sed -n 's/^ExecStart=//p' "$unit") </dev/null >/run/agent.log 2>&1 &
    echo $! >/run/agent.pid
    for _ in $(seq 900); do
        curl -fsS "http://$RSTRACE_LISTEN/readyz" >/dev/null 2>&1 && return
        kill -0 "$(cat /run/agent.pid)" || break
        sleep 0.1
    done
    cat /run/agent.log >&2
    exit 1
}
stop() {
    # `timeout` hands the signal on, and then ends as the agent did.
    kill "$(cat /run/agent.pid)" && while kill -0 "$(cat /run/agent.pid)" 2>/dev/null; do sleep 0.05; done
}
case "$*" in
daemon-reload) systemd-analyze --man=no verify "$unit" ;;
'enable --now rstrace') start ;;
'restart rstrace') stop; start ;;
'disable --now rstrace') stop ;;
*) echo "the stand-in for systemctl knows no $*" >&2; exit 1 ;;
esac
"#;

const STAGE: &str = r#"
set -eu
ip link set lo up
for folder in /usr/local/bin /etc/systemd/system /etc/default /run /var/lib target/image; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
cp "$STATIC" target/image/rstrace
trap 'kill "$(cat /run/agent.pid)" 2>/dev/null || true' EXIT
PATH=$STAND_INS:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"#;

/// The lines of every `sh` block.
fn commands(document: &str) -> Vec<&str> {
    let blocks = document.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.is_empty()).collect()
}

#[test]
fn image_and_unit_are_installed_upgraded_and_removed_as_the_document_says() -> Result<()> {
    require_root()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let document = std::fs::read_to_string(workspace.join("docs/deploy.md"))?;
    let all = commands(&document);
    for (beginning, why) in NOT_TYPED {
        ensure!(all.iter().any(|line| line.starts_with(beginning)), "{beginning} is typed nowhere: {why}");
    }
    let typed: Vec<&str> = all
        .into_iter()
        .filter(|line| !NOT_TYPED.iter().any(|(beginning, _)| line.starts_with(beginning)))
        .collect();
    ensure!(typed.len() >= 15, "{typed:?}");
    // A pipe that breaks must not pass; each line says first what it is.
    let script: String = typed.iter().map(|line| format!("echo '+' {}\n{line}\n", quoted(line))).collect();

    let stand_ins = tempfile::tempdir()?;
    let systemctl = stand_ins.path().join("systemctl");
    std::fs::write(&systemctl, SYSTEMCTL)?;
    std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755))?;
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--net", "--propagation", "private", "bash", "-o", "pipefail", "-c"]);
    shell.arg(format!("{STAGE}{script}")).current_dir(&workspace);
    shell.env("STATIC", static_binary()?.canonicalize()?).env("STAND_INS", stand_ins.path());
    let played = run_within(&mut shell, LIMIT)?;
    ensure!(played.code == Some(0), "{}\n{}", played.stdout, played.stderr);
    for line in &typed {
        ensure!(played.stdout.contains(&format!("+ {line}\n")), "{line} was not reached:\n{}", played.stdout);
    }
    let said = |what: &str| played.stdout.lines().find(|line| line.contains(what)).map(str::to_owned);
    for what in ["process_killed", "ready", "rstrace_upstream_aborts_total{", "rstrace_build_info{"] {
        said(what).with_context(|| format!("nobody said {what}:\n{}", played.stdout))?;
    }
    Ok(())
}

fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', r"'\''"))
}
