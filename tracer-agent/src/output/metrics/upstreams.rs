//! The samples of upstreams, by far the most of a scrape: summed by label, then written without a detour.

use std::collections::BTreeMap;
use std::fmt::Display;

use tracer_ebpf::wire::UpstreamCounters;

use super::definitions::Name;
use super::{expiry, text};

/// In the order of `wire::outcome`.
const OUTCOMES: [&str; 5] = ["established", "refused", "timed_out", "unreachable", "abandoned"];
/// In the order of `wire::phase`.
const PHASES: [&str; 4] = ["connect", "unused", "pending", "answered"];

/// What the kernel counted, by the labels upstream and scope.
#[derive(Debug, Default)]
pub struct Upstreams {
    rows: BTreeMap<(String, String), Row>,
}

#[derive(Debug, Default)]
struct Row {
    counters: UpstreamCounters,
    idle_limit_seconds: Option<f64>,
}

/// The samples of one metric of one upstream.
struct Samples<'a> {
    /// What all of them begin with.
    begin: String,
    /// The names of the labels that differ.
    labels: &'static [&'static str],
    text: &'a mut String,
}

// === impl Upstreams ===

impl Upstreams {
    /// Adds what was counted in one place of the kernel's map. Of several idle limits the smallest is the one to stay
    /// below.
    pub fn add(
        &mut self,
        upstream: String,
        scope: String,
        counters: &UpstreamCounters,
        idle_limit_seconds: Option<f64>,
    ) {
        let row = self.rows.entry((upstream, scope)).or_default();
        expiry::add(&mut row.counters, counters);
        row.idle_limit_seconds =
            [row.idle_limit_seconds, idle_limit_seconds].into_iter().flatten().reduce(f64::min);
    }

    /// Whether there are samples of this metric.
    pub fn have(&self, name: Name) -> bool {
        match name {
            Name::UpstreamConnections | Name::UpstreamResets | Name::UpstreamFins | Name::UpstreamAborts => {
                !self.rows.is_empty()
            }
            Name::UpstreamIdleLimit => self.rows.values().any(|row| row.idle_limit_seconds.is_some()),
            _ => false,
        }
    }

    /// Writes the samples of this metric; none for a metric that is not about upstreams.
    pub fn write(&self, name: Name, text: &mut String) {
        if self.have(name) {
            for ((upstream, scope), row) in &self.rows {
                row.write(name, &mut Samples::of(name, upstream, scope, text));
            }
        }
    }
}

// === impl Row ===

impl Row {
    /// Every series is there from the start, zero or not, so that `increase()` sees its first event: but for those that
    /// an upstream that never accepted a connection cannot have.
    fn write(&self, name: Name, samples: &mut Samples<'_>) {
        let counters = &self.counters;
        match name {
            Name::UpstreamConnections => {
                for (outcome, count) in OUTCOMES.iter().zip(counters.connections) {
                    samples.add(&[outcome], count);
                }
            }
            Name::UpstreamResets => {
                self.by_phase("sent", &counters.resets_sent, samples);
                self.by_phase("received", &counters.resets_received, samples);
            }
            Name::UpstreamFins => {
                self.by_phase("sent", &counters.fins_sent, samples);
                self.by_phase("received", &counters.fins_received, samples);
            }
            Name::UpstreamAborts => {
                samples.add(&["unknown", "unclassified", "unknown"], counters.unclassified);
            }
            Name::UpstreamIdleLimit => {
                if let Some(seconds) = self.idle_limit_seconds {
                    samples.add(&[], seconds);
                }
            }
            _ => {}
        }
    }

    fn by_phase(&self, direction: &str, counts: &[u64], samples: &mut Samples<'_>) {
        let phases = if expiry::has_answered(&self.counters) { PHASES.len() } else { 1 };
        for (phase, count) in PHASES.iter().zip(counts).take(phases) {
            samples.add(&[direction, phase], count);
        }
    }
}

// === impl Samples ===

impl<'a> Samples<'a> {
    fn of(name: Name, upstream: &str, scope: &str, text: &'a mut String) -> Self {
        let definition = name.definition();
        let mut begin = definition.name.to_owned();
        text::label(&mut begin, '{', "upstream", upstream);
        text::label(&mut begin, ',', "scope", scope);
        Self { begin, labels: definition.labels.get(2..).unwrap_or_default(), text }
    }

    fn add(&mut self, values: &[&str], value: impl Display) {
        self.text.push_str(&self.begin);
        for (name, value) in self.labels.iter().zip(values) {
            text::label(self.text, ',', name, value);
        }
        self.text.push('}');
        text::end(self.text, value);
    }
}
