//! What an agent has learned and its verdicts do not carry: timeouts, idle limits, who listens where.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::view::{ExitView, Kind, SCHEMA, hundredths, json_line, nanoseconds};
use crate::table::as_configured;

/// Upstreams in one line; as many as /metrics names.
pub const MAX_UPSTREAMS: usize = 2048;
/// Who may wait for an answer at one time before the next has to wait for a place.
const QUESTIONS: usize = 4;

/// The answer of an agent to what it knows now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateView {
    pub schema: u32,
    pub kind: Kind,
    #[serde(with = "nanoseconds")]
    pub time: Timestamp,
    pub host: String,
    /// When the agent began to see.
    #[serde(with = "nanoseconds")]
    pub since: Timestamp,
    pub upstreams: Vec<UpstreamState>,
    /// Upstreams beyond [`MAX_UPSTREAMS`].
    pub omitted: u64,
}

/// What is known of one upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamState {
    pub upstream: String,
    pub scope: String,
    /// The age at which it gives up requests; null if none repeats.
    pub upstream_timeout: Option<TimeoutView>,
    /// The ages at which the gateway gives it up.
    pub gateway_timeouts: Vec<TimeoutView>,
    /// The idle age at which it closes kept connections: the gateway has to keep them for less.
    pub idle_limit_ms: Option<f64>,
    /// Null if nothing of this host was ever seen to listen there.
    pub listener: Option<ListenerState>,
}

/// An age at which requests were given up, over and over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeoutView {
    pub waited_for: WaitedFor,
    pub age_ms: f64,
    /// Waits that ended at about this age, of so many that are remembered.
    pub times: u64,
    pub of: u64,
}

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitedFor {
    /// The handshake (`proxy_connect_timeout`).
    Connect,
    /// The answer (`proxy_read_timeout`, or the upstream's own limit).
    Answer,
    /// The other side to take the request (`proxy_send_timeout`).
    Sending,
}

/// Who listens at an address of this host, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerState {
    pub listening: bool,
    /// Since when nothing listens there.
    pub ceased: Option<Timestamp>,
    /// Who listens, or did last.
    pub process: Option<ListenerProcess>,
}

/// The process of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerProcess {
    pub pid: u32,
    pub comm: String,
    #[serde(default, with = "hundredths")]
    pub started: Option<Timestamp>,
    pub exit: Option<ExitView>,
}

impl UpstreamState {
    /// Whether anything repeats.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.upstream_timeout.is_some() || !self.gateway_timeouts.is_empty() || self.idle_limit_ms.is_some()
    }

    /// What repeats, in sentences without their subject, which is the upstream.
    #[must_use]
    pub fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        let times = |t: &TimeoutView| format!("{} ({} of the last {})", seconds(t.age_ms), t.times, t.of);
        if let Some(timeout) = &self.upstream_timeout {
            limits.push(format!("gives up requests after {}: a timeout of its own", times(timeout)));
        }
        for timeout in &self.gateway_timeouts {
            let what = match timeout.waited_for {
                WaitedFor::Connect => "connecting",
                WaitedFor::Answer => "waiting for an answer",
                WaitedFor::Sending => "sending a request",
            };
            limits.push(format!("the gateway gives up {what} after {}", times(timeout)));
        }
        if let Some(limit) = self.idle_limit_ms {
            let keep = match (as_configured(limit) / 1000.0).floor() {
                whole if whole >= 2.0 => format!(" (nginx: keepalive_timeout {}s)", whole - 1.0),
                _ => String::new(),
            };
            let limit = seconds(limit);
            limits.push(format!("closes idle connections after {limit}: keep them for less{keep}"));
        }
        limits
    }
}

fn seconds(milliseconds: f64) -> String {
    format!("{:.2} s", milliseconds / 1000.0)
}

impl StateView {
    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }

    /// Without what is known of upstreams.
    #[must_use]
    pub fn new(host: &str, time: Timestamp, since: Timestamp) -> Self {
        let (upstreams, host) = (Vec::new(), host.to_owned());
        Self { schema: SCHEMA, kind: Kind::State, time, host, since, upstreams, omitted: 0 }
    }
}

/// Asks the loop of the agent, which alone has the tables.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Answer>);

/// The loop's end of it.
#[derive(Debug)]
pub struct Asked {
    questions: mpsc::Receiver<Answer>,
}

/// Where one answer goes.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<StateView>);

impl Asker {
    #[must_use]
    pub fn new() -> (Self, Asked) {
        let (sender, questions) = mpsc::channel(QUESTIONS);
        (Self(sender), Asked { questions })
    }

    /// What was learned; None if the agent ends meanwhile.
    pub async fn state(&self) -> Option<StateView> {
        let (answer, state) = oneshot::channel();
        self.0.send(Answer(answer)).await.ok()?;
        state.await.ok()
    }
}

impl Asked {
    /// The next one who asks; never, where nobody can any more.
    pub async fn next(&mut self) -> Answer {
        match self.questions.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

impl Answer {
    /// Whoever has asked may have left.
    pub fn give(self, state: StateView) {
        let _ = self.0.send(state);
    }
}
