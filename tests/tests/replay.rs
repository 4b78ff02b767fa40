//! `rstrace record` and `rstrace replay`: a replay's lines are those of the run, byte for byte.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::binary;
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::{Ended, Guarded, poll, run_within};
use rstrace_tests::scene::Watcher;
use rstrace_tests::story;

const READY: Duration = Duration::from_secs(30);

fn replay(arguments: &[&str]) -> Result<Ended> {
    run_within(Command::new(binary()?).arg("replay").args(arguments), Duration::from_secs(20))
}

/// A namespace, and an address in it that refuses.
fn refusing() -> Result<(Net, SocketAddr)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let address = net.free_upstream();
    Ok((net, address))
}

#[test]
fn a_replay_gives_the_lines_of_the_run_byte_for_byte() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (shown, recorded) = (folder.path().join("shown"), folder.path().join("recorded"));
    let mut command = Command::new(binary()?);
    command.args(["watch", "--json", "--all", "--record"]).arg(&recorded);
    let mut watch = Guarded::spawn(command.stdin(Stdio::null()).stdout(File::create(&shown)?))?;
    let lines = || std::fs::read_to_string(&shown).unwrap_or_default();
    poll("the ready line", READY, || lines().contains("\"ready\"").then_some(()))?;
    let stories: [story::Story; 7] = [
        story::no_listener,
        story::process_crashed,
        story::process_killed,
        story::reset_mid_response,
        story::gateway_timeout_1s,
        story::client_gone,
        story::graceful,
    ];
    for tell in stories {
        tell(Link::Veth, Family::V4, Watcher::Nobody)?;
    }
    for cause in ["no_listener", "process_crashed", "process_killed", "gateway_timeout", "client_gone"] {
        let told = || lines().contains(&format!("\"{cause}\"")).then_some(());
        poll(cause, Duration::from_secs(20), told)?;
    }
    watch.signal(libc::SIGINT);
    let status = watch.wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(0), "watch ended with {status}");

    let shown = lines();
    ensure!(shown.ends_with('\n'), "the last line is torn");
    let recorded = recorded.to_string_lossy();
    let replayed = replay(&[&recorded, "--json", "--all"])?;
    ensure!(replayed.code == Some(0) && replayed.stderr.is_empty(), "{replayed:?}");
    for (i, (replayed, shown)) in replayed.stdout.lines().zip(shown.lines()).enumerate() {
        ensure!(replayed == shown, "line {}:\n{shown}\nis replayed as\n{replayed}", i + 1);
    }
    // What was judged after the last line had been shown, in the instant of the signal, may be more.
    ensure!(
        replayed.stdout.starts_with(&shown),
        "{} lines of {} are replayed",
        replayed.stdout.lines().count(),
        shown.lines().count()
    );
    Ok(())
}

#[test]
fn a_recording_is_replayed_with_the_filters_of_watch() -> Result<()> {
    let (net, address) = refusing()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recorded");
    let name = file.to_string_lossy();
    let mut command = Command::new(binary()?);
    command.arg("record").arg(&file).args(["--count", "1", "--duration", "20s"]);
    command.arg("--vantage").arg(net.gateway().path());
    let mut record = Guarded::spawn(command.stdin(Stdio::null()))?;
    let header = || std::fs::read_to_string(&file).unwrap_or_default().contains("\"recording\"");
    poll("the header", READY, || header().then_some(()))?;
    dial_refused(net.gateway(), address, 1)?;
    ensure!(record.wait(Duration::from_secs(20))?.code() == Some(0), "record failed");

    let upstream = address.to_string();
    let line = replay(&[&name])?;
    ensure!(line.code == Some(0) && line.stdout.contains("no_listener"), "{line:?}");
    ensure!(line.stdout.contains(&upstream) && !line.stdout.contains('\u{1b}'), "{line:?}");
    let verdicts = |arguments: &[&str]| -> Result<usize> {
        let ended = replay(&[&[&*name, "--json"], arguments].concat())?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(ended.stdout.lines().filter(|line| line.contains("\"verdict\"")).count())
    };
    let here = net.gateway().inode().to_string();
    ensure!(verdicts(&["--upstream", &upstream, "--netns", &here, "--cause", "no_listener"])? == 1, "hidden");
    for other in [["--by", "client"], ["--upstream", "192.0.2.1"], ["--netns", "1"]] {
        ensure!(verdicts(&other)? == 0, "{other:?} shows it");
    }
    Ok(())
}

#[test]
fn a_recording_can_be_piped_into_its_replay() -> Result<()> {
    let (net, address) = refusing()?;
    let mut command = Command::new("sh");
    let script = "(\"$0\" record - --duration 20s; echo \"record ended with $?\" >&2) \
                  | \"$0\" replay - --json --count 1 --upstream \"$1\"";
    command.args(["-c", script]).arg(binary()?).arg(address.to_string());
    let over = std::sync::atomic::AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = dial_refused(net.gateway(), address, 1);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let ended = run_within(&mut command, READY);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        ended
    })?;
    ensure!(ended.code == Some(0) && ended.stdout.contains("no_listener"), "{ended:?}");
    // A reader that has gone is an ordinary end, soon.
    ensure!(ended.stderr == "record ended with 0\n", "{ended:?}");
    Ok(())
}

#[test]
fn a_full_disk_leaves_whole_lines_and_one_line_of_error() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let address = net.free_upstream();
    let folder = tempfile::tempdir()?;
    // A file system of its own, in a mount namespace that ends with the command: the header fits, not much more.
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=16k none \"$1\" && \"$0\" record \"$1/r\" --duration 20s; code=$?; \
                  cat \"$1/r\"; exit $code";
    command.args(["--mount", "sh", "-c", script]).arg(binary()?).arg(folder.path());
    let over = std::sync::atomic::AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = dial_refused(net.gateway(), address, 20);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let ended = run_within(&mut command, READY);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        ended
    })?;
    ensure!(ended.code == Some(1), "{ended:?}");
    ensure!(ended.stderr.lines().count() == 1 && ended.stderr.contains("No space left"), "{}", ended.stderr);
    ensure!(ended.stdout.ends_with("}\n"), "torn: {:?}", ended.stdout.lines().last());
    let first = ended.stdout.lines().next().context("nothing was recorded")?;
    ensure!(first.contains("\"recording\""), "{first}");
    Ok(())
}
