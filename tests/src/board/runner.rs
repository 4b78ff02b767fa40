//! Plays the cases, several at once, and says of each and of each watcher whether it was right.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, ensure};
use serde_json::Value;

use super::cases::GROUPS;
use super::expected::{Expected, Vantage, brief};
use super::late::Late;
use super::watch::{HostWatch, Watch, wait_for};
use super::{Case, Stage, report};
use crate::agent::{Agent, binary};
use crate::missed::{self, Missed};
use crate::netns::Net;
use crate::process::poll;

/// A case that has not ended by then has failed.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long after the fence a late line would still be seen: the settle window of 200 ms, and some more.
const SETTLE: Duration = Duration::from_millis(450);

/// What to play.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only cases whose `group/name` contains this.
    pub filter: Option<String>,
    /// Only this watcher.
    pub vantage: Option<Vantage>,
    /// Cases that play at once.
    pub jobs: usize,
}

/// One case as one watcher saw it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub group: &'static str,
    pub case: &'static str,
    pub vantage: Vantage,
    pub expected: String,
    pub got: String,
    pub lines: Vec<Value>,
    /// What the kernel counted meanwhile, and this watcher neither saw nor can explain.
    pub gaps: Vec<String>,
    /// Why it is wrong.
    pub error: Option<String>,
    pub seconds: f64,
}

#[derive(Debug, Clone)]
struct Play {
    group: &'static str,
    case: Case,
    expected: Expected,
}

/// Plays what the options ask for; `done` gets each outcome when it is known. All of them come back in the order of
/// the table.
///
/// # Errors
/// When nothing can be played: a fixture without a case, a case without a fixture, no agent.
pub fn run(options: &Options, mut done: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let plays = plays(options.filter.as_deref())?;
    ensure!(!plays.is_empty(), "no case has a name that contains this");
    let host = match options.vantage {
        Some(Vantage::Gateway) => None,
        _ => Some(HostWatch::start().context("start the agent")?),
    };
    let watch_gateway = options.vantage != Some(Vantage::Host);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut outcomes = BTreeMap::new();
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            let (sender, host, next, plays) = (sender.clone(), &host, &next, &plays);
            scope.spawn(move || {
                while let Some(play) = plays.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let all = play_within_deadline(play, host.clone(), watch_gateway);
                    let _ = sender.send(all);
                }
            });
        }
        drop(sender);
        for all in receiver {
            for outcome in all {
                done(&outcome);
                let place = plays
                    .iter()
                    .position(|play| (play.group, play.case.name) == (outcome.group, outcome.case));
                outcomes.insert((place, outcome.vantage == Vantage::Gateway), outcome);
            }
        }
    });
    Ok(outcomes.into_values().collect())
}

fn plays(filter: Option<&str>) -> Result<Vec<Play>> {
    let mut plays = Vec::new();
    for &(group, cases, text) in GROUPS {
        let mut fixtures: BTreeMap<String, Expected> =
            serde_json::from_str(text).with_context(|| format!("fixtures/board/{group}.json"))?;
        for &case in cases {
            let name = case.name;
            let expected =
                fixtures.remove(name).with_context(|| format!("{group}.json has no entry {name}"))?;
            if filter.is_none_or(|filter| format!("{group}/{name}").contains(filter)) {
                plays.push(Play { group, case, expected });
            }
        }
        ensure!(fixtures.is_empty(), "{group}.json has entries without a case: {:?}", fixtures.keys());
    }
    Ok(plays)
}

/// A case that hangs is left behind: its threads end with this process.
fn play_within_deadline(play: &Play, host: Option<HostWatch>, watch_gateway: bool) -> Vec<Outcome> {
    let (sender, receiver) = mpsc::channel();
    let start = Instant::now();
    let (owned, watches_host) = (play.clone(), host.is_some());
    let thread = thread::spawn(move || {
        let _ = sender.send(play_on_time(&owned, host.as_ref(), watch_gateway));
    });
    let played = receiver.recv_timeout(DEADLINE);
    let broke_off = !matches!(played, Ok(Ok(_)));
    let seen = match played {
        Ok(Ok(seen)) => {
            let _ = thread.join();
            seen
        }
        Ok(Err(error)) => failed(watches_host, watch_gateway, &format!("{error:#}")),
        Err(_) => failed(watches_host, watch_gateway, &format!("it did not end within {DEADLINE:?}")),
    };
    let seconds = start.elapsed().as_secs_f64();
    let outcome = |Seen { vantage, lines, gaps, error }: Seen| {
        let wanted = play.expected.lines(vantage);
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or("?").to_owned();
        let got: Vec<_> = lines.iter().map(|line| (text(line, "by"), text(line, "cause"))).collect();
        Outcome {
            group: play.group,
            case: play.case.name,
            vantage,
            expected: brief(wanted.iter().map(|line| (&*line.by, &*line.cause))),
            // A case that broke off was not quiet.
            got: if broke_off {
                "error".to_owned()
            } else {
                brief(got.iter().map(|(by, cause)| (&**by, &**cause)))
            },
            lines,
            gaps,
            error,
            seconds,
        }
    };
    seen.into_iter().map(outcome).collect()
}

struct Seen {
    vantage: Vantage,
    lines: Vec<Value>,
    gaps: Vec<String>,
    error: Option<String>,
}

fn failed(host: bool, gateway: bool, error: &str) -> Vec<Seen> {
    let watchers = [(host, Vantage::Host), (gateway, Vantage::Gateway)];
    let watching = watchers.into_iter().filter(|(on, _)| *on);
    let none = |(_, vantage)| Seen { vantage, lines: vec![], gaps: vec![], error: Some(error.to_owned()) };
    watching.map(none).collect()
}

/// A case whose timers were late, or of which the kernel let rstrace miss something, is played again, and that is said.
fn play_on_time(play: &Play, host: Option<&HostWatch>, watch_gateway: bool) -> Result<Vec<Seen>> {
    missed::again(
        &format!("{}/{}", play.group, play.case.name),
        |error| error.is::<Late>() || error.is::<Missed>(),
        || play_once(play, host.cloned(), watch_gateway),
    )
}

fn play_once(play: &Play, host: Option<HostWatch>, watch_gateway: bool) -> Result<Vec<Seen>> {
    let net = Net::create(play.case.link, play.case.family)?;
    let gateway = watch_gateway.then(|| gateway_watch(&net));
    let mut watches: Vec<(Vantage, Box<dyn Watch>)> = Vec::new();
    if let Some(host) = host {
        watches.push((Vantage::Host, Box::new(host)));
    }
    if let Some(gateway) = gateway {
        watches.push((Vantage::Gateway, Box::new(gateway?)));
    }
    let mut stage = Stage::set(net)?;
    // From here on the kernel's counters are compared.
    gaps(&stage, &watches);
    let lost: Vec<String> = watches.iter().map(|(_, watch)| missed::lost(watch.listen())).collect();
    let begin = fence(&stage, &mut watches)?;
    (play.case.run)(&mut stage)?;
    log_says(&stage, &play.expected.log)?;
    let end = fence(&stage, &mut watches)?;
    thread::sleep(SETTLE);
    let gaps = gaps(&stage, &watches);
    let mut seen = Vec::new();
    for (((vantage, mut watch), gaps), lost) in watches.into_iter().zip(gaps).zip(lost) {
        let mut lines = watch.lines(&|inode| stage.net().owns(inode))?;
        // The number of a namespace that has gone is given to a new one.
        lines.retain(|line| line["time"].as_str() > Some(&begin.1) && line["upstream"] != end.0);
        let told = play.expected.check(vantage, &lines).and_then(|()| match watch.socket() {
            Some(socket) => report::tells(socket, &begin.1, &lines),
            None => Ok(()),
        });
        let told = told.and_then(|()| {
            ensure!(gaps.is_empty(), "the kernel counted what nothing explains: {}", gaps.join(", "));
            Ok(())
        });
        let error = match told {
            Ok(()) => None,
            Err(error) => Some(failed_with(
                &error,
                &stage,
                &*watch,
                &lines,
                Unseen { lost_before: &lost, gaps: &gaps },
            )?),
        };
        seen.push(Seen { vantage, lines, gaps, error });
    }
    Ok(seen)
}

/// rstrace as it is used where only the gateway can be seen.
fn gateway_watch(net: &Net) -> Result<Agent> {
    let vantage = net.gateway().path();
    // The kernel verifies its programs for a while: the timers of the servers must not be late because of that.
    let mut patient = Command::new("nice");
    patient.args(["-n", "10"]).arg(binary()?);
    Agent::watch_as(patient, &["--vantage", &vantage.to_string_lossy(), "--with", "all"])
}

/// Of what rstrace's programs may not have run for: what the agent had lost before the case, and the gaps of the audit after it.
struct Unseen<'a> {
    lost_before: &'a str,
    gaps: &'a [String],
}

/// All that was said about a case that failed; an error if rstrace's programs did not run for all that happened in it.
fn failed_with(
    error: &Error,
    stage: &Stage,
    watch: &dyn Watch,
    lines: &[Value],
    Unseen { lost_before, gaps }: Unseen<'_>,
) -> Result<String, Missed> {
    let shown: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (now, log, said) = (missed::lost(watch.listen()), watch.log(), stage.all_said());
    let failed = format!("{error:#}\n--- lines\n{shown}{now}--- rstrace's log\n{log}{said}");
    let lost = (now != lost_before).then(|| format!("{now:?}, was {lost_before:?}"));
    match missed::why(lost, gaps) {
        Some(what) => Err(Missed { what, failed }),
        None => Ok(failed),
    }
}

/// Of each watcher, the gaps in the namespaces of this stage, or why it does not say.
fn gaps(stage: &Stage, watches: &[(Vantage, Box<dyn Watch>)]) -> Vec<Vec<String>> {
    let owns = |inode| stage.net().owns(inode);
    let of = |watch: &dyn Watch| watch.gaps(&owns).unwrap_or_else(|error| vec![format!("{error:#}")]);
    watches.iter().map(|(_, watch)| of(&**watch)).collect()
}

/// Makes an event that is known to be reported, and waits until every watcher has; gives its upstream and its time.
fn fence(stage: &Stage, watches: &mut [(Vantage, Box<dyn Watch>)]) -> Result<(String, String)> {
    let fence = stage.fence()?.to_string();
    let owns = |inode| stage.net().owns(inode);
    let mut latest = String::new();
    for (_, watch) in watches {
        let line = wait_for(&mut **watch, &owns, "the fence", |line| line["upstream"] == *fence)?;
        latest = latest.max(line["time"].as_str().unwrap_or_default().to_owned());
    }
    Ok((fence, latest))
}

/// The fault is known to have come through by what the gateway itself says.
fn log_says(stage: &Stage, texts: &[String]) -> Result<()> {
    for text in texts {
        poll(&format!("{text:?} in the gateway's log"), Duration::from_secs(5), || {
            stage.gateway_log().contains(text.as_str()).then_some(())
        })
        .map_err(|error| anyhow!("{error:#}\n{}", stage.all_said()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::plays;

    /// Known without root, before anything plays.
    #[test]
    fn every_case_has_a_fixture_and_every_fixture_a_case() {
        let plays = plays(None);
        assert!(plays.is_ok(), "{plays:?}");
    }
}
