//! Samples on their way into the library's families; those with equal labels are summed.

use std::collections::BTreeMap;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::definitions::{DEFINITIONS, Kind, Name};

/// What one scrape answers.
#[derive(Debug, Default)]
pub struct Families {
    /// By metric, then by label values in the order of its definition.
    sums: BTreeMap<usize, BTreeMap<Vec<String>, f64>>,
    /// Samples that the library made itself.
    made: BTreeMap<usize, Vec<Metric>>,
}

impl Families {
    /// Adds to the sample with these label values.
    pub fn add(&mut self, name: Name, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), name.definition().labels.len(), "{name:?}");
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        *self.sums.entry(name as usize).or_default().entry(labels).or_default() += value;
    }

    /// Sets the sample with these label values to the smallest value given for them.
    pub fn smallest(&mut self, name: Name, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), name.definition().labels.len(), "{name:?}");
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        let known = self.sums.entry(name as usize).or_default().entry(labels).or_insert(value);
        *known = known.min(value);
    }

    /// Takes over what the library counted.
    pub fn take(&mut self, name: Name, families: Vec<MetricFamily>) {
        let made = self.made.entry(name as usize).or_default();
        for mut family in families {
            made.extend(family.take_metric());
        }
    }

    /// One family for each metric that has samples.
    pub fn finish(mut self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        for (index, definition) in DEFINITIONS.iter().enumerate() {
            let mut samples = self.made.remove(&index).unwrap_or_default();
            for (values, sum) in self.sums.remove(&index).unwrap_or_default() {
                samples.push(sample(definition.kind, definition.labels, values, sum));
            }
            if samples.is_empty() {
                continue;
            }
            let mut family = MetricFamily::default();
            family.set_name(definition.name.to_owned());
            family.set_help(definition.help.to_owned());
            family.set_field_type(match definition.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(samples);
            families.push(family);
        }
        families
    }
}

fn sample(kind: Kind, names: &[&str], values: Vec<String>, value: f64) -> Metric {
    let labels = names.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    });
    let mut metric = Metric::from_label(labels.collect());
    match kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        // Made by the library only.
        Kind::Histogram => {}
    }
    metric
}
