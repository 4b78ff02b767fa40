//! The metrics: what was counted in the kernel, read at each scrape, and what the agent counts itself.
//!
//! One collector gives all of them; `docs/metrics.md` describes each, and a test holds it against
//! [`definitions::DEFINITIONS`]. Nothing is judged here, and every open label is capped.

mod alike;
mod audited;
mod collector;
pub mod definitions;
mod expiry;
mod families;
mod labels;
mod source;
mod text;
mod upstreams;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector as _;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use tracer_ebpf::wire::{UpstreamCounters, UpstreamKey};

use super::view::HookView;
use super::{Sink, VerdictView};
use crate::event::{Event, Process, Role};
use crate::table::Fill;
use crate::verdict::{Cause, Impact, Verdict, signal_name};
use alike::Alike;
use definitions::Name;
use expiry::{Expiry, Judged};
use labels::Labels;

pub use source::{KernelSnapshot, ProcessUse, ProgramUse, Source};

/// Counts, and answers scrapes. Shared between the loop and the HTTP server.
pub struct Metrics {
    counted: Counted,
}

/// What the agent counts itself.
struct Counted {
    aborts: IntCounterVec,
    listener_aborts: IntCounterVec,
    request_age: HistogramVec,
    idle_close_age: HistogramVec,
    exits: IntCounterVec,
    received: IntCounterVec,
    undecodable: prometheus::IntCounter,
    dropped: IntCounterVec,
    /// Connects that the kernel counted, and whose like was never judged.
    unjudged: prometheus::IntCounter,
    labels: Labels,
    alike: Mutex<Alike>,
    state: Mutex<State>,
    upstreams: Mutex<Upstreams>,
}

/// Upstreams that come and go.
#[derive(Default)]
struct Upstreams {
    expiry: Expiry,
    expired: u64,
    /// What was counted, by scope, of those that expired and had no label of their own: `other` must not fall.
    expired_others: BTreeMap<String, UpstreamCounters>,
}

#[derive(Default)]
struct State {
    source: Option<Arc<dyn Source>>,
    tables: BTreeMap<&'static str, Fill>,
    hooks: Vec<HookView>,
}

/// Seconds: from the fastest crash to the longest usual proxy timeouts.
const AGE_BUCKETS: &[f64] =
    &[0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self { counted: Counted::new() }
    }
}

impl Metrics {
    /// From now on scrapes show the kernel's figures too.
    pub fn set_source(&self, source: Box<dyn Source>) {
        self.counted.state().source = Some(Arc::from(source));
    }

    /// An event came through the ring and was decoded.
    pub fn received(&self, event: &Event) {
        self.counted.received.with_label_values(&[event_kind(event)]).inc();
    }

    /// A record of the ring could not be decoded.
    pub fn undecodable(&self) {
        self.counted.undecodable.inc();
    }

    /// A sink was too slow for so many verdicts, or had no room for them.
    pub fn dropped(&self, sink: &'static str, count: u64) {
        self.counted.dropped.with_label_values(&[sink]).inc_by(count);
    }

    /// A process that owned sockets has ended.
    pub fn exited(&self, process: &Process) {
        let comm = self.counted.labels.comm(&process.comm);
        self.counted.exits.with_label_values(&[comm.as_str(), exit_reason(process).as_str()]).inc();
    }

    /// How full a table is.
    pub fn set_table(&self, fill: Fill) {
        self.counted.set_table(fill);
    }

    /// Which hooks are attached, and how.
    pub fn set_hooks(&self, hooks: Vec<HookView>) {
        self.counted.state().hooks = hooks;
    }

    /// These upstreams are configured: they have places of their own among the labels.
    pub fn reserve(&self, upstreams: impl Iterator<Item = String>) {
        self.counted.labels.reserve_upstreams(upstreams);
    }

    /// Counts a verdict.
    pub fn judged(&self, verdict: &Verdict, view: &VerdictView) {
        self.counted.judged(verdict, view);
    }

    /// Adds what the kernel only counted to the verdicts on their like; returns how many there were.
    pub fn count_alike(&self, now_ns: u64) -> u64 {
        self.counted.count_alike(now_ns)
    }

    /// Ends the series of upstreams that nothing happens to, if there are many.
    pub fn sweep(&self, now_ns: u64) {
        self.counted.sweep(now_ns);
    }

    /// All of it, in the text format of Prometheus.
    ///
    /// # Errors
    /// If a family is inconsistent, which the tests exclude.
    pub fn exposition(&self) -> Result<String, prometheus::Error> {
        collector::collect(&self.counted).into_text()
    }
}

impl Sink for Arc<Metrics> {
    fn deliver(&mut self, verdict: &Verdict, view: &Arc<VerdictView>) {
        self.judged(verdict, view);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

// === impl Counted ===

impl Counted {
    fn new() -> Self {
        let counted = Self {
            aborts: counters(Name::UpstreamAborts),
            listener_aborts: counters(Name::ListenerAborts),
            request_age: ages(Name::AbortRequestAge),
            idle_close_age: ages(Name::IdleCloseAge),
            exits: counters(Name::ProcessExits),
            received: counters(Name::EventsReceived),
            undecodable: never_fails(prometheus::IntCounter::new("undecodable", "part of events_lost")),
            dropped: counters(Name::EventsDropped),
            unjudged: never_fails(prometheus::IntCounter::new("unjudged", "part of events_lost")),
            labels: Labels::default(),
            alike: Mutex::default(),
            state: Mutex::default(),
            upstreams: Mutex::default(),
        };
        // What is known beforehand is there from the start, so that rate() sees the first event.
        for kind in EVENT_KINDS {
            counted.received.with_label_values(&[kind]);
        }
        for sink in SINKS {
            counted.dropped.with_label_values(&[sink]);
        }
        counted.idle_close_age.with_label_values::<&str>(&[]);
        counted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done while the lock is held, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_table(&self, fill: Fill) {
        self.state().tables.insert(fill.table, fill);
    }

    fn upstreams(&self) -> MutexGuard<'_, Upstreams> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, now_ns: u64) {
        let Some(source) = self.state().source.clone() else { return };
        let mut upstreams = self.upstreams();
        if source.upstreams_in_use() <= expiry::KEPT {
            upstreams.expiry.forget();
            return;
        }
        let mut rows = source.upstreams();
        rows.retain(|(key, _)| *key != UpstreamKey::default());
        let judged = self.aborts_judged();
        for idle in upstreams.expiry.look(&rows, collector::address, &judged, now_ns) {
            let is_other = self.labels.is_other_upstream(&idle.upstream);
            for key in &idle.keys {
                let Some(counted) = source.expire(key).filter(|_| is_other) else { continue };
                let scope = self.labels.scope(&source.scope(key.netns));
                expiry::add(upstreams.expired_others.entry(scope).or_default(), &counted);
            }
            for labels in judged.get(&idle.upstream).into_iter().flat_map(|judged| &judged.series) {
                // It is there: nobody else removes any.
                let _ = self.aborts.remove_label_values(labels);
            }
            self.labels.forget_upstream(&idle.upstream);
            upstreams.expired += 1;
        }
    }

    fn alike(&self) -> MutexGuard<'_, Alike> {
        self.alike.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_alike(&self, now_ns: u64) -> u64 {
        let Some(source) = self.state().source.clone() else { return 0 };
        let mut alike = self.alike();
        let news = alike.look(&source.alike(), now_ns);
        for (series, count) in &news.counted {
            self.aborts.with_label_values(series).inc_by(*count);
        }
        let late =
            news.idle.iter().map(|key| alike.forget(key, source.forget_alike(key).unwrap_or_default()));
        self.unjudged.inc_by(news.lost + late.sum::<u64>());
        let fill = alike.fill();
        drop(alike);
        self.set_table(fill);
        news.counted.iter().map(|(_, count)| count).sum()
    }

    fn aborts_judged(&self) -> HashMap<String, Judged> {
        let mut judged = HashMap::<_, Judged>::new();
        for metric in self.aborts.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
            let value = |name: &&str| {
                let pair = metric.get_label().iter().find(|pair| pair.name() == *name);
                pair.map_or_else(String::new, |pair| pair.value().to_owned())
            };
            let labels: Vec<String> = Name::UpstreamAborts.definition().labels.iter().map(value).collect();
            let Some(upstream) = labels.first().cloned() else { continue };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, exact up to 2^53"
            )]
            let count = metric.get_counter().get_value() as u64;
            let judged = judged.entry(upstream).or_default();
            judged.aborts += count;
            judged.series.push(labels);
        }
        judged
    }

    fn judged(&self, verdict: &Verdict, view: &VerdictView) {
        let age = verdict.connection.since_request_ms.map(|ms| ms / 1000.0);
        if verdict.cause == Cause::IdleClose
            && let Some(age) = age
        {
            self.idle_close_age.with_label_values::<&str>(&[]).observe(age);
        }
        if verdict.impact == Impact::None {
            self.alike().told(verdict, None);
            return;
        }
        let (cause, impact) = (verdict.cause.name(), verdict.impact.name());
        let scope = self.labels.scope(&view.scope);
        match (verdict.role, &view.upstream, &view.listener) {
            (Role::Client, Some(upstream), _) => {
                let upstream = self.labels.upstream(upstream, verdict.impact != Impact::ConnectFailed);
                let by = verdict.by.name();
                let series = [upstream.as_str(), &scope, by, cause, impact];
                self.aborts.with_label_values(&series).inc();
                if verdict.shape.is_some() {
                    self.alike().told(verdict, Some(series.map(str::to_owned).to_vec()));
                }
                if let Some(age) = age {
                    self.request_age.with_label_values(&[by, cause]).observe(age);
                }
            }
            (Role::Server, _, Some(listener)) => {
                let listener = self.labels.listener(listener);
                self.listener_aborts.with_label_values(&[listener.as_str(), &scope, cause, impact]).inc();
            }
            // A view always has the one of its role.
            _ => {}
        }
    }
}

/// The label `sink` of what the journal misses.
pub const JOURNAL: &str = "journal";

/// Names of sinks that can drop.
const SINKS: [&str; 6] = ["socket", "stdout", "web", "demo", "otlp", JOURNAL];

const EVENT_KINDS: [&str; 12] = [
    "socket_end",
    "reset_sent",
    "listener",
    "process_exit",
    "signal",
    "oom_victim",
    "snapshot",
    "dns_query",
    "dns_answer",
    "connect_error",
    "unix_end",
    "unix_server",
];

fn event_kind(event: &Event) -> &'static str {
    match event {
        Event::SocketEnd(_) => "socket_end",
        Event::ResetSent(_) => "reset_sent",
        Event::Listener(_) => "listener",
        Event::ProcessExit(_) => "process_exit",
        Event::Signal(_) => "signal",
        Event::OomVictim(_) => "oom_victim",
        Event::Existing(_) => "snapshot",
        Event::DnsQuery(_) => "dns_query",
        Event::DnsAnswer(_) => "dns_answer",
        Event::ConnectError(_) => "connect_error",
        Event::UnixEnd(_) => "unix_end",
        Event::UnixServer(_) => "unix_server",
    }
}

/// A closed list but for the signals, of which there are 64.
fn exit_reason(process: &Process) -> String {
    match process.exit {
        None => "unknown".to_owned(),
        Some(exit) if exit.oom => "oom_killed".to_owned(),
        Some(exit) => match (exit.signal, exit.code) {
            (Some(signal), _) => signal_name(signal),
            (None, Some(0)) => "success".to_owned(),
            (None, Some(_)) => "failure".to_owned(),
            (None, None) => "unknown".to_owned(),
        },
    }
}

fn counters(name: Name) -> IntCounterVec {
    let definition = name.definition();
    never_fails(IntCounterVec::new(Opts::new(definition.name, definition.help), definition.labels))
}

fn ages(name: Name) -> HistogramVec {
    let definition = name.definition();
    let options = HistogramOpts::new(definition.name, definition.help).buckets(AGE_BUCKETS.to_vec());
    never_fails(HistogramVec::new(options, definition.labels))
}

/// The library refuses malformed names only, and all of ours are constants that a test makes.
#[expect(clippy::expect_used, reason = "constant names, each made by a test")]
fn never_fails<T>(made: Result<T, prometheus::Error>) -> T {
    made.expect("a well-formed metric")
}

#[cfg(test)]
mod tests;
