//! Finds the verdict of each failure that a proxy logged.
//!
//! A verdict fits a failure if it is of the same upstream, if its cause can be logged like that, and if it lies
//! within the failure's window or near it; each is used once. Where the log does not say the upstream's address, its name
//! and the time are left, and the process that owned the connection has to be the proxy.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::failure::canonical;
use super::{Class, Failure, Upstream};
use crate::event::Target;
use crate::output::VerdictView;
use crate::verdict::{By, Cause};

/// How far outside of its window a failure's verdict may lie: a proxy that was busy logs late.
const NEAR: SignedDuration = SignedDuration::from_secs(2);
/// The same where nothing but the time joins them.
const NEAR_BY_TIME: SignedDuration = SignedDuration::from_millis(500);
/// Failures that may wait for those of the next seconds.
const MOST_WAITING: usize = 4096;

/// What the agent remembers, and what it could have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The time of the oldest verdict that it has kept.
    pub oldest: Option<Timestamp>,
    /// The optional groups of hooks that are on.
    pub groups: Vec<String>,
}

/// Joins the failures of a log, in the order of the log.
#[derive(Debug)]
pub struct Joiner {
    /// None if no agent could be asked.
    memory: Option<Memory>,
    comms: &'static [&'static str],
    /// By their time.
    verdicts: Vec<VerdictView>,
    used: Vec<bool>,
    by_upstream: HashMap<Target, Vec<usize>>,
    waiting: VecDeque<(Failure, Option<Match>)>,
}

/// A failure, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub failure: Failure,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Joined {
        /// For [`Joiner::verdict`].
        verdict: usize,
        by: JoinedBy,
        /// Other verdicts of another upstream or cause that would have fitted as well.
        others: usize,
    },
    /// There is no connection to speak of, or no verdict on it: the log itself says what there is to know.
    LogAlone(&'static str),
    NotJoined(NotJoined),
}

/// What a failure and its verdict have in common besides the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinedBy {
    Upstream,
    /// Upstream or not, the gateway's own port is that of the connection.
    LocalPort,
    /// The proxy's configuration calls the upstream what the log calls it.
    Name,
    /// Nothing else.
    Time,
}

/// Why a failure has no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotJoined {
    NoAgent,
    BeforeMemory,
    /// The agent runs without these hooks.
    WithoutGroup(&'static str),
    UpstreamNotSeen,
    NothingThen,
    NothingFits,
    AllUsed,
}

/// A verdict that was found.
#[derive(Clone, Copy, Debug)]
struct Match {
    verdict: usize,
    by: JoinedBy,
    others: usize,
}

// === impl Joiner ===

impl Joiner {
    /// `comms` are the names under which the proxy's processes run.
    #[must_use]
    pub fn new(
        memory: Option<Memory>,
        mut verdicts: Vec<VerdictView>,
        comms: &'static [&'static str],
    ) -> Self {
        verdicts.sort_by_key(|view| view.time);
        let mut by_upstream: HashMap<Target, Vec<usize>> = HashMap::new();
        for (index, view) in verdicts.iter().enumerate() {
            if let Some(target) = target(view) {
                by_upstream.entry(target).or_default().push(index);
            }
        }
        let used = vec![false; verdicts.len()];
        Self { memory, comms, verdicts, used, by_upstream, waiting: VecDeque::new() }
    }

    #[must_use]
    pub fn verdict(&self, index: usize) -> Option<&VerdictView> {
        self.verdicts.get(index)
    }

    /// Takes the next failure of the log; gives those that are settled by now.
    pub fn take(&mut self, failure: Failure) -> Vec<Pair> {
        let now = failure.window.from;
        // What lies within its own window goes to it, before others look around theirs.
        let found = self.find(&failure, SignedDuration::ZERO);
        self.waiting.push_back((failure, found));
        let mut settled = Vec::new();
        // A log that goes back in time is another one behind the first.
        while let Some((first, _)) = self.waiting.front()
            && (self.waiting.len() > MOST_WAITING || first.window.distance(now) > NEAR * 2)
        {
            settled.extend(self.settle());
        }
        settled
    }

    /// Gives the rest.
    pub fn finish(&mut self) -> Vec<Pair> {
        std::iter::from_fn(|| self.settle()).collect()
    }

    fn settle(&mut self) -> Option<Pair> {
        let (failure, found) = self.waiting.pop_front()?;
        let found = found.or_else(|| self.find(&failure, NEAR));
        let outcome = match (found, failure.class.meaning()) {
            (Some(Match { verdict, by, others }), _) => Outcome::Joined { verdict, by, others },
            (None, Some(meaning)) => Outcome::LogAlone(meaning),
            (None, None) => Outcome::NotJoined(self.why_not(&failure)),
        };
        Some(Pair { failure, outcome })
    }

    /// The best verdict that is left for a failure, which is used then.
    fn find(&mut self, failure: &Failure, near: SignedDuration) -> Option<Match> {
        if !failure.class.has_verdict() {
            return None;
        }
        let by_time = failure.target().is_none();
        let near = if by_time { near.min(NEAR_BY_TIME) } else { near };
        let fitting: Vec<(bool, Likeness, bool, SignedDuration, usize)> = self
            .around(failure, near)
            .filter(|index| !self.used[*index])
            .filter_map(|index| {
                let view = &self.verdicts[index];
                if by_time && !self.is_of_proxy(view) {
                    return None;
                }
                let cause = can_be_told(failure.class, view);
                let perhaps = view.alternatives.iter().any(|cause| failure.class.can_be(*cause));
                let port = failure.local.zip(port(view)).map(|(local, port)| local.port() == port);
                let fits = (cause || perhaps) && port != Some(false);
                let distance = failure.window.distance(view.time);
                fits.then(|| (port.is_none(), likeness(failure, view), !cause, distance, index))
            })
            .collect();
        // Equals are taken in the order of time, as the log has them.
        let (other_port, likeness, _, _, verdict) = *fitting.iter().min()?;
        let best = &self.verdicts[verdict];
        let differs = |view: &VerdictView| (view.cause, &view.upstream) != (best.cause, &best.upstream);
        let alike = fitting.iter().filter(|(_, other, ..)| *other == likeness);
        let others = alike.filter(|(.., other)| differs(&self.verdicts[*other])).count();
        let by = match (other_port, by_time, likeness) {
            (false, ..) => JoinedBy::LocalPort,
            (true, false, _) => JoinedBy::Upstream,
            (true, true, Likeness::SameName) => JoinedBy::Name,
            (true, true, _) => JoinedBy::Time,
        };
        self.used[verdict] = true;
        Some(Match { verdict, by, others: if other_port { others } else { 0 } })
    }

    /// Verdicts of the upstream, or of any if the log names none, around the time of a failure.
    fn around(&self, failure: &Failure, near: SignedDuration) -> Box<dyn Iterator<Item = usize> + '_> {
        let time = |index: usize| self.verdicts[index].time;
        let from = failure.window.from.checked_sub(near).unwrap_or(Timestamp::MIN);
        let until = failure.window.until.checked_add(near).unwrap_or(Timestamp::MAX);
        match failure.target() {
            Some(target) => {
                let of_it = self.of(target);
                let first = of_it.partition_point(|index| time(*index) < from);
                Box::new(of_it[first..].iter().copied().take_while(move |index| time(*index) < until))
            }
            None => {
                let first = self.verdicts.partition_point(|view| view.time < from);
                Box::new((first..self.verdicts.len()).take_while(move |index| time(*index) < until))
            }
        }
    }

    fn of(&self, target: &Target) -> &[usize] {
        self.by_upstream.get(target).map_or(&[], Vec::as_slice)
    }

    fn is_of_proxy(&self, view: &VerdictView) -> bool {
        view.owner.as_ref().is_some_and(|owner| self.comms.contains(&owner.comm.as_str()))
    }

    fn why_not(&self, failure: &Failure) -> NotJoined {
        let Some(memory) = &self.memory else { return NotJoined::NoAgent };
        let unix = matches!(failure.upstream, Some(Upstream::At(Target::Unix(_))));
        match failure.class.group(unix) {
            Some(group) if !memory.groups.iter().any(|on| on == group) => {
                return NotJoined::WithoutGroup(group);
            }
            _ => {}
        }
        if memory.oldest.is_none_or(|oldest| failure.window.until < oldest) {
            return NotJoined::BeforeMemory;
        }
        if failure.target().is_some_and(|target| self.of(target).is_empty()) {
            return NotJoined::UpstreamNotSeen;
        }
        let mut then = self.around(failure, NEAR).peekable();
        if then.peek().is_none() {
            NotJoined::NothingThen
        } else if then.all(|index| self.used[index]) {
            NotJoined::AllUsed
        } else {
            NotJoined::NothingFits
        }
    }
}

/// Whether a log may tell of that end in this way. A queue that the gateway itself gave up on is a timeout to it, and no
/// end of the server.
fn can_be_told(class: Class, view: &VerdictView) -> bool {
    let gave_up = view.cause == Cause::NeverAccepted && view.by == By::Gateway;
    class.can_be(view.cause) && (!gave_up || class.can_be(Cause::GatewayTimeout))
}

/// How well a verdict's upstream fits what a log calls it, the best first. Another name is no proof: one address may have
/// several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    SameName,
    NotNamed,
    OtherName,
}

fn likeness(failure: &Failure, view: &VerdictView) -> Likeness {
    match (&failure.upstream, &view.upstream_name) {
        (Some(Upstream::Named(logged)), Some(names)) if names.split(", ").any(|name| name == logged) => {
            Likeness::SameName
        }
        (Some(Upstream::Named(_)), Some(_)) => Likeness::OtherName,
        _ => Likeness::NotNamed,
    }
}

/// The upstream of a verdict; of one from the upstream's own end, where it listens.
fn target(view: &VerdictView) -> Option<Target> {
    let text = view.upstream.as_ref().or(view.listener.as_ref())?;
    text.parse().ok().map(canonical)
}

/// The gateway's own port on that connection.
fn port(view: &VerdictView) -> Option<u16> {
    view.local.as_deref()?.parse::<std::net::SocketAddr>().ok().map(|local| local.port())
}

// === impl NotJoined, JoinedBy ===

impl NotJoined {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoAgent => "no_agent",
            Self::BeforeMemory => "before_memory",
            Self::WithoutGroup(_) => "without_hooks",
            Self::UpstreamNotSeen => "upstream_not_seen",
            Self::NothingThen => "nothing_then",
            Self::NothingFits => "nothing_fits",
            Self::AllUsed => "all_used",
        }
    }
}

impl std::fmt::Display for NotJoined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoAgent => "no agent could be asked",
            Self::BeforeMemory => "before the agent's memory begins",
            Self::WithoutGroup(group) => {
                return write!(
                    f,
                    "the agent runs without the hooks that see this: `rstrace agent --with {group}`"
                );
            }
            Self::UpstreamNotSeen => "the agent has no verdict about this upstream",
            Self::NothingThen => "no verdict at that time",
            Self::NothingFits => {
                "the verdicts of that time are of other connections or have causes that are logged otherwise"
            }
            Self::AllUsed => "the verdicts of that time belong to other lines",
        })
    }
}

impl JoinedBy {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::LocalPort => "local_port",
            Self::Name => "name",
            Self::Time => "time",
        }
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
