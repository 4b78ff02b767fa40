//! `rstrace agent --journal`: the past outlives the agent, however that ends, and a full disk costs lines and nothing
//! else.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net, require_root};
use rstrace_tests::process::{poll, run_within};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// What tells verdicts of one host apart, whoever watched them.
type Id = (String, u64);

fn id(verdict: &Value) -> Id {
    let cookie = verdict["connection"]["cookie"].as_u64().unwrap_or_default();
    (verdict["time"].as_str().unwrap_or_default().to_owned(), cookie)
}

fn is_of(upstream: SocketAddr) -> impl Fn(&Value) -> bool {
    let upstream = upstream.to_string();
    move |line| line["kind"] == "verdict" && line["upstream"] == upstream.as_str()
}

/// The lines of a journal, oldest file first: those that can be read, and how many cannot.
fn journal(path: &Path) -> Result<(Vec<Value>, usize)> {
    let (mut lines, mut torn) = (Vec::new(), 0);
    for number in (0..100).rev() {
        let file = if number == 0 { path.to_owned() } else { path.with_extension(number.to_string()) };
        if !file.exists() {
            continue;
        }
        for line in String::from_utf8_lossy(&fs::read(&file)?).lines() {
            match serde_json::from_str(line) {
                Ok(line) => lines.push(line),
                Err(_) => torn += 1,
            }
        }
    }
    Ok((lines, torn))
}

/// Waits until the agent has told so many verdicts on an upstream, and gives all it told of it.
fn told(agent: &mut Agent, upstream: SocketAddr, count: usize) -> Result<BTreeSet<Id>> {
    let ours = is_of(upstream);
    let deadline = Instant::now() + LIMIT;
    loop {
        let told: BTreeSet<Id> =
            agent.seen().iter().map(|line| &line.json).filter(|line| ours(line)).map(id).collect();
        if told.len() >= count {
            return Ok(told);
        }
        ensure!(Instant::now() < deadline, "{} of {count} verdicts: {}", told.len(), agent.stderr());
        agent.read_for(Duration::from_millis(20))?;
    }
}

#[test]
fn killed_while_verdicts_stream_it_has_its_past_back() -> Result<()> {
    require_root()?;
    let net = Net::create(Link::Loopback, Family::V4)?;
    let upstream = net.free_upstream();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let name = path.to_string_lossy().into_owned();
    // So small that it is rotated within the test.
    let arguments = ["--journal", &name, "--journal-size", "64KiB", "--journal-files", "99"];
    let mut agent = Agent::start_with(&arguments)?;
    let mut all = BTreeSet::new();
    let mut torn = 0;
    for round in 0..4 {
        let before = all.clone();
        // Killed in the middle of what these make.
        std::thread::scope(|scope| -> Result<()> {
            let dialling = scope.spawn(|| dial_refused(net.gateway(), upstream, 60));
            all.extend(told(&mut agent, upstream, 20 + round)?);
            agent.signal(libc::SIGKILL);
            dialling.join().map_err(|_| anyhow!("a thread panicked"))??;
            Ok(())
        })?;
        agent.wait(LIMIT)?;
        if round % 2 == 1 {
            // A kill seldom hits the middle of a write: so this makes what it would leave.
            OpenOptions::new().append(true).open(&path)?.write_all(b"{\"schema\":1,\"kind\":\"verd")?;
            torn += 1;
        }
        agent = agent.killed_and_started_with(&arguments)?;
        let history: Vec<Value> = agent.history()?.into_iter().filter(is_of(upstream)).collect();
        let kept: BTreeSet<Id> = history.iter().map(id).collect();
        ensure!(kept.len() == history.len(), "round {round}: the history has a verdict twice");
        ensure!(before.is_subset(&kept), "round {round}: the history has not what it had before");
        // What was told a moment before the kill may not have come to the disk.
        let (new, lost) = (all.difference(&before).count(), all.difference(&kept).count());
        eprintln!("round {round}: {lost} of {new} were told and not written");
        ensure!(lost < new, "round {round}: all of {new} are lost");
        let (lines, unreadable) = journal(&path)?;
        // The kill itself may have cut one more.
        ensure!(
            (torn..=torn + 1).contains(&unreadable),
            "round {round}: {unreadable} lines are torn, not {torn}"
        );
        torn = unreadable;
        let lines: Vec<Value> = lines.into_iter().filter(is_of(upstream)).collect();
        ensure!(lines.len() == history.len() && lines.iter().map(id).collect::<BTreeSet<_>>() == kept);
        let damaged = "cannot be read (cut off or damaged)";
        if torn > 0 {
            agent.logs(damaged).with_context(|| format!("round {round}"))?;
        } else {
            ensure!(!agent.stderr().contains(damaged), "round {round}: {}", agent.stderr());
        }
        all = kept;

        // What comes now begins a line of its own.
        agent.forget();
        dial_refused(net.gateway(), upstream, 3)?;
        let now = told(&mut agent, upstream, 3)?;
        poll("what came after the restart to be in the journal", LIMIT, || {
            let (lines, _) = journal(&path).ok()?;
            now.is_subset(&lines.iter().map(id).collect()).then_some(())
        })?;
        all.extend(now);
        agent.forget();
    }
    ensure!(path.with_extension("1").exists(), "it was never rotated: this test sees less than it should");

    // And somebody who comes now sees both what was before the last start, and what is since.
    agent.forget();
    dial_refused(net.gateway(), upstream, 5)?;
    all.extend(told(&mut agent, upstream, 5)?);
    let mut watch = Command::new(binary()?);
    let count = all.len().to_string();
    let address = upstream.to_string();
    watch.args(["watch", "--json", "--since", "1h", "--upstream", &address, "--count", &count, "--socket"]);
    watch.arg(agent.socket());
    let ended = run_within(&mut watch, LIMIT)?;
    let shown = ended.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let shown: BTreeSet<Id> = shown.iter().filter(|line| line["kind"] == "verdict").map(id).collect();
    ensure!(shown == all, "{} of {} shown: {}", shown.len(), all.len(), ended.stderr);
    Ok(())
}

#[test]
fn an_agent_that_is_told_to_stop_writes_what_it_told() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let upstream = net.free_upstream();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let mut agent = Agent::start_with(&["--journal", &path.to_string_lossy()])?;
    dial_refused(net.gateway(), upstream, 500)?;
    let told = told(&mut agent, upstream, 500)?;
    agent.signal(libc::SIGTERM);
    ensure!(agent.wait(LIMIT)?.code() == Some(0), "{}", agent.stderr());
    let (lines, torn) = journal(&path)?;
    let written: BTreeSet<Id> = lines.iter().filter(|line| is_of(upstream)(line)).map(id).collect();
    ensure!(torn == 0 && told.is_subset(&written), "{} of {}", written.len(), told.len());
    Ok(())
}

#[test]
fn a_full_disk_costs_lines_that_are_counted_and_nothing_else() -> Result<()> {
    require_root()?;
    let net = Net::create(Link::Loopback, Family::V4)?;
    let folder = tempfile::tempdir()?;
    // Its mounts are seen by nobody else, and go with it.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            small_disk(folder.path(), "size=8m")?;
            on_a_full_disk(&net, folder.path())
        });
        thread.join().map_err(|_| anyhow!("the thread with the full disk panicked"))?
    })
}

/// Mounts a file system of its own for this thread, and for what it starts.
fn small_disk(folder: &Path, options: &str) -> Result<()> {
    let folder = CString::new(folder.to_string_lossy().into_owned())?;
    let options = CString::new(options)?;
    // SAFETY: the strings outlive the calls, and unshare changes this thread alone.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(c"none".as_ptr(), folder.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
                == 0
    };
    if !done {
        return Err(std::io::Error::last_os_error()).context("mount a small disk");
    }
    Ok(())
}

/// Takes all of the disk but a rest. (What is free changes meanwhile: other tests' verdicts are written there too.)
fn fill(ballast: &Path, rest: u64) -> Result<()> {
    let mut file = fs::File::create(ballast)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    let taken = file.metadata()?.len();
    file.set_len(taken.saturating_sub(rest)).context("leave a rest of the disk")
}

fn on_a_full_disk(net: &Net, folder: &Path) -> Result<()> {
    const MANY: u32 = 400;
    let upstream = net.free_upstream();
    let path = folder.join("journal");
    let mut agent = Agent::start_with(&["--journal", &path.to_string_lossy()])?;
    let left_out = |agent: &Agent| -> Result<f64> {
        Ok(agent.scrape()?.sum("rstrace_events_dropped_total", &[("sink", "journal")]))
    };
    dial_refused(net.gateway(), upstream, 1)?;
    told(&mut agent, upstream, 1)?;
    poll("the journal to begin", LIMIT, || fs::metadata(&path).ok().filter(|journal| journal.len() > 0))?;

    // All of the disk but a rest that holds some of what comes.
    let ballast = folder.join("ballast");
    fill(&ballast, 128 << 10)?;
    for _ in 0..2 {
        dial_refused(net.gateway(), upstream, MANY)?;
    }
    told(&mut agent, upstream, 1 + 2 * MANY as usize).context("on a full disk")?;
    poll("verdicts to be left out of the journal", LIMIT, || {
        left_out(&agent).ok().filter(|count| *count > f64::from(MANY))
    })?;
    let full = OpenOptions::new()
        .append(true)
        .open(folder.join("more"))
        .or_else(|_| fs::File::create(folder.join("more")));
    let full = full.and_then(|mut file| file.write_all(&[0; 8192]));
    ensure!(full.is_err(), "the disk is not full: this test sees nothing");
    fs::remove_file(folder.join("more"))?;
    let log = agent.logs("No space left")?;
    ensure!(log.matches("cannot write the journal").count() == 1, "{log}");
    ensure!(agent.history()?.iter().filter(|line| is_of(upstream)(line)).count() == 1 + 2 * MANY as usize);

    fs::remove_file(&ballast)?;
    let after = net.free_upstream();
    dial_refused(net.gateway(), after, 3)?;
    let last = told(&mut agent, after, 3)?;
    let (lines, torn) = poll("the journal to go on", LIMIT, || {
        let (lines, torn) = journal(&path).ok()?;
        let there: BTreeSet<Id> = lines.iter().map(id).collect();
        last.is_subset(&there).then_some((lines, torn))
    })?;
    ensure!(torn == 0, "{torn} lines are torn");
    let whole = lines.iter().filter(|line| is_of(upstream)(line)).count();
    let said: u64 =
        lines.iter().filter(|line| line["kind"] == "omitted").filter_map(|line| line["count"].as_u64()).sum();
    let lost = left_out(&agent)?;
    // Other tests' verdicts are in it as well, so the count of all is the one to go by.
    let told = agent.seen().iter().filter(|line| line.json["kind"] == "verdict").count();
    let kept = lines.iter().filter(|line| line["kind"] == "verdict").count();
    ensure!(said as f64 == lost, "the journal says that {said} are missing, and the metric {lost}");
    eprintln!(
        "of {told} verdicts {kept} were written ({whole} of {} on the upstream), {lost} left out",
        1 + 2 * MANY
    );

    // The next agent takes what there is.
    let agent = agent.killed_and_started_with(&["--journal", &path.to_string_lossy()])?;
    let history = agent.history()?;
    let ours = history.iter().filter(|line| is_of(upstream)(line)).count();
    ensure!(last.is_subset(&history.iter().map(id).collect()) && ours == whole, "{ours} of {whole}");
    agent.logs("missing that the disk had no room")?;
    Ok(())
}

#[test]
fn what_is_no_journal_is_refused_in_one_line_and_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    for (text, why) in [
        ("root:x:0:0:root:/root:/bin/sh\n", "line 1: this is no journal"),
        ("{\"schema\":9,\"kind\":\"verdict\"}\n", "line 1: written by a newer rstrace (schema 9"),
    ] {
        fs::write(&path, text)?;
        let mut command = Command::new(binary()?);
        let listen = rstrace_tests::agent::free_port()?.to_string();
        command.args(["agent", "--listen", &listen, "--socket"]).arg(folder.path().join("s.sock"));
        let ended = run_within(command.arg("--journal").arg(&path), Duration::from_secs(90))?;
        ensure!(ended.code == Some(1), "{ended:?}");
        ensure!(ended.stderr.lines().count() == 1 && ended.stderr.contains(why), "{ended:?}");
        ensure!(fs::read_to_string(&path)? == text, "it was written to");
    }
    Ok(())
}
