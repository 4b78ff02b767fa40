//! Recordings: the decoded events of a run in a file, from which the same verdicts come again.
//!
//! A recording holds every input of [`agent::Core`](crate::agent::Core) in its order, and what the host answered when
//! a verdict needed a name. So a replay asks neither a kernel nor a clock nor this machine, and gives the same lines
//! byte for byte. One JSON object a line; the first is the [`Header`].
//!
//! It holds addresses, ports, names and pids of processes, paths of cgroups, and no payload.

mod read;
mod replay;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use read::{Fault, ReadError, Remark};
pub use replay::Replay;
pub use write::{NotedNames, RecordError, Recorder, Written, input_line};

use crate::enrich::container::Container;
use crate::enrich::endpoint::Endpoint;
use crate::enrich::gateways::Registration;
use crate::enrich::pods::Pod;
use crate::event::{Process, QueueDrops, Target};
use crate::output::view::HookView;
use crate::output::{Names, Origin, Ready};
use crate::table::Settings;

/// Goes up when a line changes its meaning; new fields and new kinds of lines do not count.
pub const SCHEMA: u32 = 1;

/// Names remembered; a host has some hundreds of cgroups, and each process asks once.
const NAMES: usize = 16_384;

/// First line: what has to be known of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub schema: u32,
    /// Of the rstrace that recorded.
    pub version: String,
    pub host: String,
    /// `CLOCK_MONOTONIC` at the start, nanoseconds.
    pub ktime_ns: u64,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` at the start, nanoseconds.
    pub clock_offset_ns: i64,
    /// Jiffies in a second.
    pub hz: u32,
    /// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC` at the start, nanoseconds.
    #[serde(default)]
    pub suspended_ns: u64,
    /// Inode number of the one network namespace that was looked at.
    pub vantage: Option<u32>,
    /// Numbers of the kernel's `enum sk_rst_reason`, by name.
    pub reset_reasons: BTreeMap<String, u32>,
    pub hooks: Vec<HookView>,
    /// The optional groups of hooks that were on.
    pub groups: Vec<String>,
}

/// Every line but the events, which stand there as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Recording(Header),
    /// Stands before the input whose verdict asked for it.
    Name(Box<Answer>),
    QueueDrops(QueueDrops),
    Settle {
        now_ns: u64,
    },
    Tick {
        now_ns: u64,
        clock_offset_ns: i64,
    },
    /// So many lines are missing here: the file could not be written fast enough.
    Omitted {
        count: u64,
    },
    /// An event, or what a newer rstrace wrote.
    #[serde(other)]
    Other,
}

/// What a verdict's line asks of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Question {
    Cgroup {
        tgid: u32,
        start_boottime: u64,
    },
    Scope {
        netns: u32,
    },
    /// The pod of a container.
    Pod {
        container: String,
    },
    /// What an API server says of an address.
    Endpoint {
        target: Target,
        /// Who dialled it, where the answer holds for that one connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        local: Option<SocketAddr>,
    },
    /// `comm` is the name of the process that dialled.
    Registration {
        target: Target,
        netns: u32,
        comm: Option<String>,
    },
}

/// What the host answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    #[serde(flatten)]
    pub question: Question,
    pub name: Option<String>,
    /// Of an upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// Of an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
}

/// The last answer to each question. A recorder and a replay forget at the same lines.
#[derive(Clone, Debug, Default)]
struct Answers(HashMap<Question, Answer>);

// === impl Header ===

impl Header {
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings { hz: self.hz, vantage: self.vantage.is_some(), suspended_ns: self.suspended_ns }
    }

    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::new(&self.host, self.clock_offset_ns, self.suspended_ns)
    }

    /// The first line of the stream of this run.
    #[must_use]
    pub fn ready(&self) -> Ready {
        let ready = Ready::new(self.ktime_ns, &self.origin(), self.hooks.clone(), self.groups.clone());
        Ready { version: self.version.clone(), ..ready }
    }
}

// === impl Question ===

impl Question {
    fn cgroup_of(process: &Process) -> Self {
        Self::Cgroup { tgid: process.tgid, start_boottime: process.start_boottime }
    }

    fn pod_of(container: &Container) -> Self {
        Self::Pod { container: container.id.clone() }
    }

    fn registration_of(target: &Target, netns: u32, owner: Option<&Process>) -> Self {
        let comm = owner.map(|process| process.comm.clone());
        Self::Registration { target: target.clone(), netns, comm }
    }
}

// === impl Answer, Answers ===

impl Answer {
    fn named(question: Question, name: Option<String>) -> Self {
        Self { question, name, registration: None, pod: None, endpoint: None }
    }

    /// As good as no answer.
    fn is_empty(&self) -> bool {
        let Self { question: _, name, registration, pod, endpoint } = self;
        name.is_none() && registration.is_none() && pod.is_none() && endpoint.is_none()
    }
}

impl Answers {
    fn to(&self, question: &Question) -> Option<&str> {
        self.0.get(question)?.name.as_deref()
    }

    fn knows(&self, answer: &Answer) -> bool {
        self.0.get(&answer.question).map_or(answer.is_empty(), |known| known == answer)
    }

    fn learn(&mut self, answer: Answer) {
        if self.0.len() >= NAMES && !self.0.contains_key(&answer.question) {
            self.0.clear();
        }
        self.0.insert(answer.question.clone(), answer);
    }
}

/// Names as a recording has them.
struct RecordedNames<'a> {
    answers: &'a Answers,
    reset_reasons: &'a BTreeMap<u32, String>,
}

impl Names for RecordedNames<'_> {
    fn cgroup(&self, process: &Process) -> Option<String> {
        self.answers.to(&Question::cgroup_of(process)).map(str::to_owned)
    }

    fn reset_reason(&self, number: u32) -> Option<String> {
        self.reset_reasons.get(&number).cloned()
    }

    fn pod(&self, container: &Container) -> Option<Pod> {
        self.answers.0.get(&Question::pod_of(container))?.pod.clone()
    }

    fn scope(&self, netns: u32) -> String {
        // Without an answer (its line was omitted) the commonest one.
        self.answers.to(&Question::Scope { netns }).unwrap_or("host").to_owned()
    }

    fn endpoint(&self, target: &Target, local: Option<SocketAddr>) -> Option<Endpoint> {
        let answer = |local| self.answers.0.get(&Question::Endpoint { target: target.clone(), local });
        answer(local).or_else(|| answer(None))?.endpoint.clone()
    }

    fn registration(&self, target: &Target, netns: u32, owner: Option<&Process>) -> Option<Registration> {
        self.answers.0.get(&Question::registration_of(target, netns, owner))?.registration.clone()
    }
}
