//! The command line: exit codes, one clear line for each refusal, quiet ends.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary, free_port};
use rstrace_tests::process::{Ended, copy_program, run_within};

const NOBODY: u32 = 65534;

fn rstrace(arguments: &[&str]) -> Result<Ended> {
    run_within(Command::new(binary()?).args(arguments), Duration::from_secs(20))
}

/// The one line that a refusal may write, which must name `what`.
fn one_line_naming(ended: &Ended, what: &str) -> Result<()> {
    let text = &ended.stderr;
    ensure!(text.trim_end().lines().count() == 1, "not one line: {text:?}");
    ensure!(text.contains(what), "{what} is not named: {text:?}");
    ensure!(!text.contains("panicked"), "{text}");
    Ok(())
}

#[test]
fn an_unknown_flag_is_wrong_usage() -> Result<()> {
    for arguments in
        [&["watch", "--no-such-flag"][..], &["agent", "--no-such-flag"], &["no-such-command"], &[]]
    {
        let ended = rstrace(arguments)?;
        ensure!(ended.code == Some(2), "{arguments:?} ended with {:?}: {}", ended.code, ended.stderr);
        ensure!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{arguments:?} said {ended:?}");
    }
    Ok(())
}

#[test]
fn a_bad_value_is_wrong_usage_and_named() -> Result<()> {
    let cases = [
        ["agent", "--listen", "not-an-address"],
        ["agent", "--listen", "127.0.0.1:99999"],
        ["watch", "--upstream", "10.0.0.0/99"],
        ["watch", "--upstream", "no address"],
        ["watch", "--cause", "no_such_cause"],
        ["watch", "--by", "nobody_known"],
        ["watch", "--count", "many"],
        ["watch", "--duration", "soon"],
    ];
    for arguments in cases {
        let ended = rstrace(&arguments)?;
        ensure!(ended.code == Some(2), "{arguments:?} ended with {:?}: {}", ended.code, ended.stderr);
        ensure!(ended.stderr.contains(arguments[2]), "{arguments:?} is not named: {}", ended.stderr);
    }
    Ok(())
}

#[test]
fn what_is_not_compiled_in_says_how_to_get_it() -> Result<()> {
    let ended = rstrace(&["agent", "--kubernetes"])?;
    ensure!(ended.code == Some(2), "{ended:?}");
    one_line_naming(&ended, "--features kubernetes")
}

#[test]
fn a_cause_is_explained_and_an_unknown_one_is_wrong_usage() -> Result<()> {
    let ended = rstrace(&["explain", "oom_killed"])?;
    ensure!(ended.code == Some(0) && ended.stdout.starts_with("oom_killed\nBy upstream"), "{ended:?}");
    ensure!(!ended.stdout.contains(['\u{1b}', '`']), "colours or Markdown in a pipe: {ended:?}");
    let ended = rstrace(&["explain"])?;
    for cause in ["no_listener (by upstream)", "gateway_timeout (by gateway)", "unknown (by unknown)"] {
        ensure!(ended.stdout.contains(cause), "{cause} is not listed:\n{}", ended.stdout);
    }
    let ended = rstrace(&["explain", "oom_kill"])?;
    ensure!(ended.code == Some(2) && ended.stdout.is_empty(), "{ended:?}");
    one_line_naming(&ended, "did you mean oom_killed?")
}

#[test]
fn what_is_no_recording_is_one_line_that_names_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r.ndjson");
    let name = file.to_string_lossy().into_owned();
    let missing = rstrace(&["replay", &name])?;
    ensure!(missing.code == Some(1), "{missing:?}");
    one_line_naming(&missing, &name)?;
    let header = r#"{"kind":"recording","schema":1,"version":"0.1.0","host":"gw","ktime_ns":1,"clock_offset_ns":1,"hz":250,"vantage":null,"reset_reasons":{},"hooks":[],"groups":[]}"#;
    let newer = header.replace(r#""schema":1"#, r#""schema":2"#);
    for (text, code, what) in [
        ("", 1, "it is empty"),
        ("no recording\n", 1, "line 1: no header"),
        (&newer, 1, "schema 2"),
        (&format!("{header}\n{{\"kind\":\"settle\"}}\n"), 1, "line 2: damaged"),
        (&format!("{header}\n{{\"kind\":\"set"), 0, "line 2: cut off"),
        (&format!("{header}\n{{\"kind\":\"quic\"}}\n"), 0, "(quic)"),
    ] {
        std::fs::write(&file, text)?;
        let ended = rstrace(&["replay", "--json", &name])?;
        ensure!(ended.code == Some(code), "{text:?}: {ended:?}");
        one_line_naming(&ended, &format!("{name}: "))?;
        one_line_naming(&ended, what)?;
        ensure!(code != 0 || ended.stdout.contains("\"ready\""), "{text:?}: {ended:?}");
    }
    Ok(())
}

#[test]
fn a_recording_that_cannot_be_written_is_one_line_that_names_it() -> Result<()> {
    for (arguments, code, what) in [
        (&["record", "/nonexistent/r"][..], 1, "/nonexistent/r"),
        (&["record", "/dev/full"], 1, "/dev/full"),
        (&["watch", "--record", "/dev/full"], 1, "/dev/full"),
        (&["watch", "--record", "-"], 2, "rstrace record -"),
    ] {
        let ended = rstrace(arguments)?;
        ensure!(ended.code == Some(code), "{arguments:?}: {ended:?}");
        one_line_naming(&ended, what)?;
    }
    Ok(())
}

#[test]
fn help_and_version_are_no_failures() -> Result<()> {
    for arguments in [&["--help"][..], &["--version"], &["watch", "--help"], &["agent", "--help"]] {
        let ended = rstrace(arguments)?;
        ensure!(ended.code == Some(0) && ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
        ensure!(ended.stdout.lines().all(|line| line.len() <= 130), "{arguments:?} is wider than a terminal");
    }
    Ok(())
}

#[test]
fn shells_and_the_manual_know_the_commands() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let ended = rstrace(&["completions", shell])?;
        ensure!(ended.code == Some(0) && ended.stdout.contains("since"), "{shell}: {}", ended.stderr);
        ensure!(!ended.stdout.contains("demo-part"), "{shell} completes what nobody types");
    }
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("rstrace.bash");
    std::fs::write(&script, rstrace(&["completions", "bash"])?.stdout)?;
    let complete = "source $0; COMP_WORDS=(rstrace watch --si); COMP_CWORD=2; _rstrace rstrace --si watch; echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", complete]).arg(&script).output()?;
    ensure!(output.stdout == b"--since\n", "{output:?}");

    let page = rstrace(&["man"])?;
    ensure!(page.code == Some(0) && page.stdout.contains(".TH rstrace 1"), "{page:?}");
    let written = rstrace(&["man", &folder.path().display().to_string()])?;
    ensure!(written.code == Some(0) && folder.path().join("rstrace-watch.1").exists(), "{written:?}");
    let ended = rstrace(&["man", "/no/such/folder"])?;
    ensure!(ended.code == Some(1), "{ended:?}");
    one_line_naming(&ended, "/no/such/folder")
}

#[test]
fn an_occupied_port_is_one_line_that_names_it() -> Result<()> {
    let held = TcpListener::bind(("127.0.0.1", 0))?;
    let occupied = held.local_addr()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s.sock");
    let ended =
        rstrace(&["agent", "--listen", &occupied.to_string(), "--socket", &socket.to_string_lossy()])?;
    ensure!(ended.code == Some(1), "ended with {:?}: {}", ended.code, ended.stderr);
    drop(held);
    one_line_naming(&ended, &occupied.to_string())
}

#[test]
fn a_stale_socket_file_is_replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("s.sock");
    // The file outlives its listener, as after a SIGKILL.
    drop(UnixListener::bind(&socket)?);
    let agent = agent_at(&free_port()?.to_string(), &socket.to_string_lossy())?;
    let mut watch = Agent::watch(&["--socket", &socket.to_string_lossy(), "--duration", "100ms"])?;
    ensure!(watch.wait(Duration::from_secs(5))?.success(), "{}", watch.stderr());
    drop(agent);
    Ok(())
}

#[test]
fn a_socket_that_another_agent_serves_is_refused() -> Result<()> {
    let agent = Agent::start(false)?;
    let socket = agent.socket();
    let listen = free_port()?.to_string();
    let ended = rstrace(&["agent", "--listen", &listen, "--socket", &socket.to_string_lossy()])?;
    ensure!(ended.code == Some(1), "ended with {:?}: {}", ended.code, ended.stderr);
    one_line_naming(&ended, &socket.to_string_lossy())?;
    ensure!(socket.exists(), "the refused agent removed the other one's socket");
    Ok(())
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("precious");
    std::fs::write(&file, "data")?;
    let ended =
        rstrace(&["agent", "--listen", &free_port()?.to_string(), "--socket", &file.to_string_lossy()])?;
    ensure!(ended.code == Some(1), "ended with {:?}: {}", ended.code, ended.stderr);
    one_line_naming(&ended, &file.to_string_lossy())?;
    ensure!(std::fs::read_to_string(&file)? == "data", "the file was changed");
    Ok(())
}

#[test]
fn without_privileges_it_is_one_line_and_3() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("rstrace");
    // Nobody may not be able to read the workspace.
    copy_program(&binary()?, &program)?;
    open_to_all(folder.path())?;
    let socket = folder.path().join("s.sock").to_string_lossy().into_owned();
    let listen = free_port()?.to_string();
    let recording = folder.path().join("kept.ndjson").to_string_lossy().into_owned();
    std::fs::write(&recording, "kept")?;
    open_to_all(recording.as_ref())?;
    let commands = [
        &["watch", "--socket", &socket][..],
        &["agent", "--listen", &listen, "--socket", &socket],
        &["agent", "--listen", &listen, "--socket", "/run/rstrace-of-root/rstrace.sock"],
        &["doctor"],
        &["record", &recording],
        &["watch", "--record", &recording],
    ];
    for arguments in commands {
        let mut command = Command::new(&program);
        command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/");
        let ended = run_within(&mut command, Duration::from_secs(10))?;
        ensure!(ended.code == Some(3), "{arguments:?} ended with {:?}: {}", ended.code, ended.stderr);
        one_line_naming(&ended, "CAP_")?;
    }
    ensure!(std::fs::read_to_string(&recording)? == "kept", "a refused command emptied the file");
    Ok(())
}

#[test]
fn without_the_kernels_types_it_is_one_line_and_3() -> Result<()> {
    let garbage = tempfile::NamedTempFile::new()?;
    std::fs::write(garbage.path(), "no BTF")?;
    let garbage = garbage.path().display().to_string();
    for btf in ["/nonexistent/vmlinux", &garbage] {
        for command in ["watch", "doctor"] {
            let mut started = Command::new(binary()?);
            let ended = run_within(started.arg(command).env("RSTRACE_BTF", btf), Duration::from_secs(20))?;
            ensure!(ended.code == Some(3), "{command} ended with {:?}: {}", ended.code, ended.stderr);
            one_line_naming(&ended, btf)?;
        }
    }
    Ok(())
}

#[test]
fn doctor_names_each_hook() -> Result<()> {
    let ended = rstrace(&["doctor"])?;
    ensure!(ended.code == Some(0), "ended with {:?}: {}{}", ended.code, ended.stdout, ended.stderr);
    let hooks = [
        "inet_sock_set_state",
        "tcp_send_reset",
        "tcp_receive_reset",
        "tcp_rcv_space_adjust",
        "sched_process_exit",
        "signal_generate",
        "mark_victim",
        "tcp_fin",
    ];
    for hook in hooks {
        ensure!(ended.stdout.contains(hook), "{hook} is not named:\n{}", ended.stdout);
    }
    let ready = Agent::watch(&["--duration", "1s"])?.ready;
    for hook in ready["hooks"].as_array().context("the ready line lists no hooks")? {
        let name = hook["hook"].as_str().context("a hook without a name")?;
        ensure!(ended.stdout.contains(name), "watch knows {name}, and doctor does not:\n{}", ended.stdout);
    }
    Ok(())
}

#[test]
fn groups_of_hooks_are_on_only_where_they_are_asked_for() -> Result<()> {
    let agent = Agent::start(false)?;
    let socket = agent.socket().display().to_string();
    let ended = rstrace(&["watch", "--socket", &socket, "--with", "unix", "--duration", "1s"])?;
    ensure!(ended.code == Some(1), "ended with {:?}: {}", ended.code, ended.stderr);
    one_line_naming(&ended, "rstrace agent --with unix")?;
    let ready = Agent::watch(&["--duration", "1s"])?.ready;
    ensure!(ready["groups"] == serde_json::json!([]), "groups without --with: {ready}");
    let ready = Agent::watch(&["--duration", "1s", "--with", "all"])?.ready;
    let all = serde_json::json!(["connect-errors", "unix", "dns"]);
    ensure!(ready["groups"] == all, "not all groups with --with all: {ready}");
    Ok(())
}

#[test]
fn demo_shows_a_verdict_for_each_break_within_15_s() -> Result<()> {
    let start = Instant::now();
    let ended = run_within(Command::new(binary()?).arg("demo"), Duration::from_secs(60))?;
    let took = start.elapsed();
    eprintln!("demo took {took:?}");
    ensure!(ended.code == Some(0), "ended with {:?}: {}{}", ended.code, ended.stdout, ended.stderr);
    for cause in ["no_listener", "process_killed", "closed_unread_data"] {
        ensure!(ended.stdout.contains(cause), "no verdict {cause}:\n{}", ended.stdout);
    }
    ensure!(took < Duration::from_secs(15), "it took {took:?}");
    Ok(())
}

#[test]
fn health_and_readiness_are_answered() -> Result<()> {
    let agent = Agent::start(false)?;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, body) = rstrace_tests::scrape::get(agent.listen(), path)?;
        ensure!(status == 200, "{path} answered {status}: {body}");
    }
    let (status, _) = rstrace_tests::scrape::get(agent.listen(), "/no-such-page")?;
    ensure!(status == 404, "an unknown page answered {status}");
    Ok(())
}

#[test]
fn the_socket_is_for_its_owner_alone() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let agent = Agent::start(false)?;
    let mode = std::fs::metadata(agent.socket())?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the socket's mode is {mode:o}");
    Ok(())
}

#[test]
fn a_signal_ends_it_soon_and_with_0() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        for mut running in [Agent::start(false)?, Agent::watch(&[])?] {
            running.signal(signal);
            let start = Instant::now();
            let status = running.wait(Duration::from_secs(30))?;
            ensure!(status.code() == Some(0), "signal {signal} ended it with {status}: {}", running.stderr());
            // Alone it takes a tenth of a second; the kernel detaches for one after the other.
            ensure!(start.elapsed() < Duration::from_secs(5), "it took {:?} to end", start.elapsed());
        }
    }
    Ok(())
}

fn agent_at(listen: &str, socket: &str) -> Result<rstrace_tests::process::Guarded> {
    let mut command = Command::new(binary()?);
    command.args(["agent", "--listen", listen, "--socket", socket]);
    let agent = rstrace_tests::process::Guarded::spawn(&mut command)?;
    let address = listen.parse()?;
    rstrace_tests::process::poll("the agent to be ready", Duration::from_secs(30), || {
        rstrace_tests::scrape::get(address, "/readyz").ok().filter(|(status, _)| *status == 200)
    })?;
    Ok(agent)
}

fn open_to_all(folder: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777))?;
    Ok(())
}
