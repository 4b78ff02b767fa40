//! The ways to see a FIN: by fentry, by kprobe, and by the change of state alone. The same faults under each must give
//! the same records and the same verdicts.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rstrace_tests::agent::{Agent, binary};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::results::Results;
use crate::smoke::{VERDICT, is_about};
use crate::upstream::PATIENCE;

const WAYS: [&str; 3] = ["fentry", "kprobe", "state"];

/// Every kind of end that begins with a FIN of the upstream, with a pause before it where the reader must have caught up.
const FAULTS: [Fault; 5] = [
    Fault::Request("/fin"),
    Fault::Request("/partial-fin"),
    Fault::Request("/idle/300"),
    Fault::Killed,
    Fault::Request("/exit/3"),
];

/// What differs from run to run: names of sockets and processes, sequence numbers, clocks. `fin_seen` says by which way.
const RECORD_DIFFERS: &[&str] = &[
    "ktime_ns",
    "skaddr",
    "cookie",
    "opened_ns",
    "tuple",
    "write_seq",
    "rcv_nxt",
    "snd_nxt",
    "lsnd_age",
    "lrcv_age",
    "ack_age",
    "srtt_us",
    "slowest_answer",
    "idle_ages",
    "tgid",
    "parent_tgid",
    "start_boottime",
    "parent_start_boottime",
    "fin_seen",
];
/// The same of a verdict; its sentences hold times.
const VERDICT_DIFFERS: &[&str] = &[
    "time",
    "local",
    "pid",
    "started",
    "cookie",
    "age_ms",
    "since_request_ms",
    "srtt_us",
    "join",
    "evidence",
    "summary",
];

/// What one way gave.
struct Told {
    how: &'static str,
    verdicts: Vec<Value>,
    /// The ends of both sockets of each connection.
    ends: Vec<Value>,
}

/// Plays the faults under each way, at the same addresses, and compares.
pub fn run(results: &mut Results, mut address: impl FnMut() -> SocketAddr) {
    let addresses = FAULTS.map(|_| address());
    let mut told = Vec::new();
    for how in WAYS {
        results.take(&format!("fin_by_{how}"), || {
            told.push(play(how, &addresses)?);
            Ok(())
        });
    }
    results.take("each_way_of_fin_gives_the_same_verdicts", || {
        compare(&told, |told| &told.verdicts, VERDICT_DIFFERS)
    });
    results
        .take("each_way_of_fin_gives_the_same_records", || compare(&told, |told| &told.ends, RECORD_DIFFERS));
    results.take("each_way_of_fin_says_by_which_it_was_seen", || told.iter().try_for_each(fin_seen));
}

fn play(how: &'static str, addresses: &[SocketAddr]) -> Result<Told> {
    let recording = format!("/tmp/fin-by-{how}.ndjson");
    let mut command = Command::new(binary()?);
    command.env("RSTRACE_TCP_FIN", how);
    let mut agent = Agent::watch_as(command, &["--all", "--record", &recording])?;
    attached(&agent.ready, how)?;
    let mut verdicts = Vec::new();
    for (fault, address) in FAULTS.iter().zip(addresses) {
        let cast = fault.bring_about(*address).with_context(|| format!("{fault:?}"))?;
        let line = agent.wait_for(&address.to_string(), VERDICT, |line| is_about(line, *address));
        verdicts.push(line.with_context(|| format!("{fault:?}: {}", agent.stderr()))?.json);
        drop(cast);
    }
    agent.signal(libc::SIGTERM);
    let status = agent.wait(PATIENCE)?;
    ensure!(status.success(), "the watcher ended with {status}: {}", agent.stderr());
    Ok(Told { how, verdicts, ends: ends(&recording, addresses)? })
}

/// The hook is attached in this way, or not at all where the state is to tell it.
fn attached(ready: &Value, how: &str) -> Result<()> {
    let hooks = ready["hooks"].as_array().context("no hooks")?;
    let hook = hooks.iter().find(|hook| hook["hook"] == "tcp_fin").context("nothing is said of tcp_fin")?;
    let wanted = if how == "state" { Value::Null } else { json!(how) };
    ensure!(hook["how"] == wanted, "tcp_fin is attached by {}, not by {wanted}", hook["how"]);
    Ok(())
}

/// The recorded ends of these connections, in an order that does not depend on the machine.
fn ends(recording: &str, addresses: &[SocketAddr]) -> Result<Vec<Value>> {
    let text = fs::read_to_string(recording).with_context(|| recording.to_owned())?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let mut ends = Vec::new();
    for address in addresses {
        let address = address.to_string();
        let of = |role: &str, side: &str| {
            let mine = |end: &&Value| {
                end["kind"] == "socket_end" && end["role"] == role && end["tuple"][side] == *address
            };
            lines.iter().filter(mine).cloned().collect::<Vec<_>>()
        };
        let (client, server) = (of("client", "peer"), of("server", "local"));
        ensure!(!client.is_empty(), "no end of the client's socket at {address} is recorded");
        ends.extend(client);
        ends.extend(server);
    }
    Ok(ends)
}

/// Compares what each way told with what the first told, field by field.
fn compare(told: &[Told], what: fn(&Told) -> &Vec<Value>, differs: &[&str]) -> Result<()> {
    let [first, others @ ..] = told else { bail!("nothing to compare") };
    ensure!(others.len() + 1 == WAYS.len(), "a way has told nothing");
    for other in others {
        let (expected, found) = (what(first), what(other));
        let counts = (expected.len(), found.len());
        ensure!(counts.0 == counts.1, "{} gave {}, {} {}", first.how, counts.0, other.how, counts.1);
        for (expected, found) in expected.iter().zip(found) {
            let [told, other_told] = [expected, found].map(|line| without(line, differs));
            if let Some(key) = first_difference(&told, &other_told) {
                bail!("{key} differs: by {} {told}, by {} {other_told}", first.how, other.how);
            }
        }
    }
    Ok(())
}

fn without(value: &Value, keys: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !keys.contains(&key.as_str()));
            kept.map(|(key, value)| (key.clone(), without(value, keys))).collect()
        }
        other => other.clone(),
    }
}

fn first_difference(one: &Value, other: &Value) -> Option<String> {
    let (one, other) = (one.as_object()?, other.as_object()?);
    let keys = one.keys().chain(other.keys());
    keys.filter(|key| one.get(*key) != other.get(*key)).map(ToOwned::to_owned).next()
}

/// Where a hook of its own sees FINs, each end by a FIN says so; else none does.
fn fin_seen(told: &Told) -> Result<()> {
    let closed = told.ends.iter().filter(|end| end["new_state"] == "CLOSE_WAIT");
    let mut count = 0;
    for end in closed {
        ensure!(end["fin_seen"] == json!(told.how != "state"), "by {}: {end}", told.how);
        count += 1;
    }
    ensure!(count >= FAULTS.len(), "by {}: {count} ends by a FIN of {}", told.how, FAULTS.len());
    Ok(())
}
