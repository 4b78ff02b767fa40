//! Least privilege: what it does with each set of capabilities, and what it keeps.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary, free_port};
use rstrace_tests::capabilities::{
    BPF, NET_ADMIN, NET_BIND_SERVICE, PERFMON, SETPCAP, SYS_ADMIN, SYS_PTRACE, THREE, Thread, mask,
    rstrace_with, threads,
};
use rstrace_tests::netns::{Family, Link, require_root};
use rstrace_tests::process::{Ended, copy_program, poll, run_within};
use rstrace_tests::scene::{Plan, Scene, Watcher, play};

/// The three suffice for whole verdicts, learned before the start and after it: owners by name, their cgroups.
mod the_three {
    rstrace_tests::over_every_path!(HostWithThree:
        process_killed, process_crashed, closed_unread_data, gateway_timeout_1s, client_gone,
    );
}

#[test]
fn with_the_three_other_processes_are_looked_into() -> Result<()> {
    let plan = Plan { watcher: Watcher::HostWithThree, ..Plan::default() };
    play(Link::Veth, Family::V4, &plan, |scene| {
        scene.demand("/exit/3", 502)?;
        let verdict = scene.expect("process_exited")?;
        let worker = verdict["owner"]["pid"].as_u64().context("no owner")?;
        let cgroups = std::fs::read_to_string(format!("/proc/{worker}/cgroup"))?;
        let path = verdict["owner"]["cgroup"].as_str().context("the owner has no cgroup")?;
        let known = cgroups.lines().any(|line| line.ends_with(&format!(":{path}")));
        ensure!(known, "{path} is not in {cgroups:?}");
        // The worker is root with every capability: only CAP_SYS_PTRACE lets it be looked into.
        let netns = format!("/proc/{worker}/ns/net");
        let watch = Agent::watch_as(rstrace_with(THREE)?, &["--vantage", &netns])?;
        ensure!(watch.ready["kind"] == "ready", "{}", watch.ready);
        has_only_the_three(scene)
    })
}

fn has_only_the_three(scene: &mut Scene) -> Result<()> {
    let agent = scene.agent()?;
    for thread in threads(agent.pid())? {
        ensure!(thread.permitted & !mask(THREE) == 0, "{thread:?}");
    }
    Ok(())
}

#[test]
fn each_missing_one_is_one_line_and_3() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s.sock").to_string_lossy().into_owned();
    let listen = free_port()?.to_string();
    let names = [(BPF, "CAP_BPF"), (PERFMON, "CAP_PERFMON"), (SYS_PTRACE, "CAP_SYS_PTRACE")];
    for (missing, name) in names {
        let held: Vec<u32> = THREE.iter().filter(|number| **number != missing).copied().collect();
        for arguments in
            [&["agent", "--listen", &listen, "--socket", &socket][..], &["watch", "--socket", &socket]]
        {
            let ended = ended(rstrace_with(&held)?.args(arguments))?;
            ensure!(ended.code == Some(3) && ended.stdout.is_empty(), "without {name}: {ended:?}");
            one_line(&ended, &[&format!("{name} missing"), "run as root, or grant", "AmbientCapabilities="])?;
        }
        let doctor = ended(rstrace_with(&held)?.arg("doctor"))?;
        ensure!(doctor.code == Some(3), "{doctor:?}");
        one_line(&doctor, &[name])?;
        for (_, need) in names {
            ensure!(says(&doctor.stdout, need, if need == name { "no" } else { "yes" })?, "{doctor:?}");
        }
    }
    Ok(())
}

#[test]
fn sys_admin_stands_in_for_two_of_them_and_is_kept_then() -> Result<()> {
    require_root()?;
    let agent = Agent::start_as(rstrace_with(&[SYS_ADMIN, SYS_PTRACE, NET_ADMIN])?, &[])?;
    let threads = threads(agent.pid())?;
    ensure!(threads[0].effective == mask(&[SYS_ADMIN, SYS_PTRACE]), "{threads:?}");
    let doctor = ended(rstrace_with(&[SYS_ADMIN, SYS_PTRACE])?.arg("doctor"))?;
    ensure!(doctor.code == Some(0) && says(&doctor.stdout, "CAP_BPF", "CAP_SYS_ADMIN")?, "{doctor:?}");
    Ok(())
}

#[test]
fn doctor_says_which_feature_wants_which_capability() -> Result<()> {
    require_root()?;
    let doctor = ended(rstrace_with(&[BPF, PERFMON, SYS_PTRACE, SETPCAP])?.arg("doctor"))?;
    ensure!(doctor.code == Some(0), "{doctor:?}");
    for (capability, held) in [
        ("CAP_BPF", "yes"),
        ("CAP_PERFMON", "yes"),
        ("CAP_SYS_PTRACE", "yes"),
        ("CAP_SETPCAP", "yes"),
        ("CAP_NET_BIND_SERVICE", "no"),
        ("CAP_DAC_OVERRIDE", "no"),
    ] {
        ensure!(says(&doctor.stdout, capability, held)?, "{capability} is not {held}:\n{}", doctor.stdout);
    }
    let json = ended(rstrace_with(THREE)?.args(["doctor", "--json"]))?;
    let json: serde_json::Value = serde_json::from_str(&json.stdout)?;
    let rows = json["capabilities"].as_array().context("no capabilities")?;
    ensure!(rows.iter().filter(|row| row["required"] == true && row["held"] == "yes").count() == 3, "{json}");
    ensure!(json["hooks"].is_array(), "{json}");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))?;
    for row in rows {
        let name = row["capability"].as_str().context("no name")?;
        ensure!(readme.contains(&format!("| `{name}` |")), "README.md does not list {name}");
    }
    Ok(())
}

#[test]
fn root_keeps_the_three_and_no_more_once_it_is_attached() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("r.ndjson").to_string_lossy().into_owned();
    let agent = Agent::start_with(&["--with", "all"])?;
    let watch = Agent::watch(&["--record", &recording])?;
    ensure!(own()?.effective & !mask(THREE) != 0, "this test has nothing that could be given up");
    for running in [&agent, &watch] {
        let threads = threads(running.pid())?;
        let process = &threads[0];
        ensure!((process.effective, process.permitted) == (mask(THREE), mask(THREE)), "{process:?}");
        for thread in &threads {
            given_up(thread)?;
        }
    }
    let names: Vec<String> = threads(watch.pid())?.into_iter().map(|thread| thread.name).collect();
    for writer in ["stdout", "recording"] {
        ensure!(names.iter().any(|name| name == writer), "no thread {writer} among {names:?}");
    }
    Ok(())
}

/// Nothing beyond the three in any set, and no way back.
fn given_up(thread: &Thread) -> Result<()> {
    let Thread { effective, permitted, bounding, .. } = *thread;
    ensure!((effective | permitted | bounding) & !mask(THREE) == 0, "{thread:?}");
    ensure!(thread.inheritable == 0 && thread.ambient == 0 && thread.no_new_privs, "{thread:?}");
    Ok(())
}

#[test]
fn without_setpcap_the_bounding_set_stays_and_is_of_no_use() -> Result<()> {
    require_root()?;
    let agent = Agent::start_as(rstrace_with(&[BPF, PERFMON, SYS_PTRACE, NET_ADMIN])?, &[])?;
    let threads = threads(agent.pid())?;
    ensure!(
        threads[0].effective == mask(THREE) && threads[0].bounding == mask(THREE) | mask(&[NET_ADMIN]),
        "{threads:?}"
    );
    ensure!(threads.iter().all(|thread| thread.no_new_privs), "{threads:?}");
    Ok(())
}

#[test]
fn another_user_with_ambient_capabilities_may_run_it() -> Result<()> {
    require_root()?;
    let program = tempfile::tempdir()?;
    open_to_all(program.path())?;
    let copy = program.path().join("rstrace");
    copy_program(&binary()?, &copy)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for set in ["inh-caps", "ambient-caps", "bounding-set"] {
        command.arg(format!("--{set}=-all,+bpf,+perfmon,+sys_ptrace"));
    }
    command.arg(&copy);
    let agent = Agent::watch_as(command, &[])?;
    let threads = threads(agent.pid())?;
    ensure!(threads[0].effective == mask(THREE) && threads[0].ambient == 0, "{threads:?}");
    Ok(())
}

#[test]
fn a_port_below_1024_is_taken_before_the_right_to_it_is_given_up() -> Result<()> {
    require_root()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s.sock").to_string_lossy().into_owned();
    let arguments = ["agent", "--listen", "127.83.7.1:80", "--socket", &socket];
    let refused = ended(rstrace_with(THREE)?.args(arguments))?;
    ensure!(refused.code == Some(1), "{refused:?}");
    one_line(&refused, &["127.83.7.1:80", "CAP_NET_BIND_SERVICE", "--listen"])?;
    let mut command = rstrace_with(&[BPF, PERFMON, SYS_PTRACE, NET_BIND_SERVICE])?;
    let agent = rstrace_tests::process::Guarded::spawn(command.args(arguments))?;
    let address = "127.83.7.1:80".parse()?;
    poll("the agent to be ready", Duration::from_secs(30), || {
        rstrace_tests::scrape::get(address, "/readyz").ok().filter(|(status, _)| *status == 200)
    })?;
    ensure!(threads(agent.pid())?[0].effective == mask(THREE));
    Ok(())
}

#[test]
fn root_of_a_user_namespace_is_told_so() -> Result<()> {
    require_root()?;
    let mut command = Command::new("unshare");
    let ended = ended(command.args(["--user", "--map-root-user"]).arg(binary()?).arg("doctor"))?;
    ensure!(ended.code == Some(3), "{ended:?}");
    one_line(&ended, &["user namespace", "root of the host"])
}

fn ended(command: &mut Command) -> Result<Ended> {
    run_within(command, Duration::from_secs(20))
}

/// The one line that a refusal may write on standard error, which must hold these words.
fn one_line(ended: &Ended, words: &[&str]) -> Result<()> {
    let text = &ended.stderr;
    ensure!(text.trim_end().lines().count() == 1 && !text.contains("panicked"), "not one line: {text:?}");
    for word in words {
        ensure!(text.contains(word), "{word:?} is not said: {text:?}");
    }
    Ok(())
}

/// Whether doctor's row about a capability says that this process has it.
fn says(doctor: &str, capability: &str, held: &str) -> Result<bool> {
    let row = doctor.lines().find(|line| line.split_whitespace().next() == Some(capability));
    let row = row.with_context(|| format!("no row about {capability}:\n{doctor}"))?;
    Ok(row.split_whitespace().nth(2) == Some(held))
}

fn own() -> Result<Thread> {
    threads(std::process::id())?.into_iter().next().context("no thread")
}

fn open_to_all(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
