//! Samples on their way into the text format of Prometheus; those with equal labels are summed.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Metric, MetricFamily};

use super::definitions::{Definition, Name};
use super::text;
use super::upstreams::Upstreams;

/// What one scrape answers.
#[derive(Debug, Default)]
pub struct Families {
    /// By metric, then by label values in the order of its definition.
    sums: BTreeMap<usize, BTreeMap<Vec<String>, f64>>,
    /// Samples that the library made itself.
    made: BTreeMap<usize, Vec<Metric>>,
    /// What the kernel counted, by upstream.
    pub upstreams: Upstreams,
}

impl Families {
    /// Adds to the sample with these label values.
    pub fn add(&mut self, name: Name, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), name.definition().labels.len(), "{name:?}");
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        *self.sums.entry(name as usize).or_default().entry(labels).or_default() += value;
    }

    /// Takes over what the library counted.
    pub fn take(&mut self, name: Name, families: Vec<MetricFamily>) {
        let made = self.made.entry(name as usize).or_default();
        for mut family in families {
            made.extend(family.take_metric());
        }
    }

    /// All samples, one family for each metric that has any.
    ///
    /// # Errors
    /// If the library cannot spell what it has made.
    pub fn into_text(mut self) -> Result<String, prometheus::Error> {
        let mut text = String::new();
        for name in Name::ALL {
            let definition = name.definition();
            let made = self.made.remove(&(*name as usize)).unwrap_or_default();
            let sums = self.sums.remove(&(*name as usize)).unwrap_or_default();
            if !made.is_empty() {
                TextEncoder::new().encode_utf8(&[family(definition, made)], &mut text)?;
            } else if !sums.is_empty() || self.upstreams.have(*name) {
                text::header(&mut text, definition);
            }
            for (values, sum) in sums {
                text::sample(&mut text, definition, &values, sum);
            }
            self.upstreams.write(*name, &mut text);
        }
        Ok(text)
    }
}

/// The family of a metric, in the library's terms.
fn family(definition: &Definition, mut samples: Vec<Metric>) -> MetricFamily {
    samples.sort_by(by_label_values);
    let mut family = MetricFamily::default();
    family.set_name(definition.name.to_owned());
    family.set_help(definition.help.to_owned());
    family.set_field_type(definition.kind.spelled().1);
    family.set_metric(samples);
    family
}

fn by_label_values(one: &Metric, other: &Metric) -> Ordering {
    fn values(metric: &Metric) -> impl Iterator<Item = &str> {
        metric.get_label().iter().map(prometheus::proto::LabelPair::value)
    }
    values(one).cmp(values(other))
}
