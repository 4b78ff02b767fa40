//! Takes verdicts from the hub and sends them in batches, again and again where it must.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Client, Sent};
use super::{Endpoint, record};
use crate::output::filter::Filter;
use crate::output::hub::{Hub, Item, Subscription, TooManyReaders};
use crate::output::metrics::Metrics;

/// The label `sink` of what is not exported.
pub const SINK: &str = "otlp";

/// Verdicts that may wait while the collector does not take any: some 3 MB.
const QUEUE: usize = 2048;
/// Records of one request.
const BATCH: usize = 512;
/// How long the first record of a request may wait for others.
const LINGER: Duration = Duration::from_millis(500);
/// Between the first two attempts; from then on each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After that a request is given up, so that newer ones get their turn.
const GIVE_UP: Duration = Duration::from_secs(300);

/// Sends what the hub tells to one collector.
pub struct Exporter {
    lines: Subscription,
    client: Client,
    metrics: Arc<Metrics>,
    /// The last attempt failed, and that was logged.
    failing: bool,
}

impl Exporter {
    /// Every verdict from now on that is news.
    ///
    /// # Errors
    /// If the hub has as many readers as it may.
    pub fn new(endpoint: Endpoint, hub: &Hub, metrics: Arc<Metrics>) -> Result<Self, TooManyReaders> {
        let lines = hub.subscribe(SINK, Filter::default(), QUEUE)?;
        Ok(Self { lines, client: Client::new(endpoint), metrics, failing: false })
    }

    /// Ends when the hub has gone and what was left is sent.
    pub async fn run(mut self) {
        while let Some(batch) = self.batch().await {
            self.deliver(&batch).await;
        }
    }

    async fn batch(&mut self) -> Option<Vec<Item>> {
        let mut batch = vec![self.lines.recv().await?];
        let due = Instant::now() + LINGER;
        while batch.len() < BATCH {
            match timeout_at(due, self.lines.recv()).await {
                Ok(Some(item)) => batch.push(item),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    async fn deliver(&mut self, batch: &[Item]) {
        let verdicts = batch.iter().filter(|item| matches!(item, Item::Verdict(_))).count() as u64;
        let body = Bytes::from(record::request(batch).encode_to_vec());
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let (why, after) = match self.client.send(body.clone()).await {
                Sent::Taken { rejected } => {
                    self.metrics.dropped(SINK, rejected);
                    if std::mem::take(&mut self.failing) {
                        tracing::warn!("the collector takes logs again");
                    }
                    return;
                }
                Sent::NotNow { why, after } => (why, after),
                Sent::Refused { why } => {
                    tracing::warn!("the collector took none of {} records: {why}", batch.len());
                    return self.metrics.dropped(SINK, verdicts);
                }
            };
            if !std::mem::replace(&mut self.failing, true) {
                tracing::warn!("the collector takes no logs, trying again: {why}");
            }
            let wait = wait(pause, after);
            if begun.elapsed() + wait > GIVE_UP {
                return self.metrics.dropped(SINK, verdicts);
            }
            sleep(wait).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }
}

/// Between half a pause and a whole one, so that a fleet does not come back as one; or what the collector asked for.
fn wait(pause: Duration, after: Option<Duration>) -> Duration {
    // (Every one of these states is seeded anew.)
    let random = RandomState::new().hash_one(()) as u32;
    let jittered = pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX));
    after.map_or(jittered, |after| after.clamp(jittered, LONGEST_PAUSE.max(jittered)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_heed_the_collector() {
        let second = Duration::from_secs(1);
        let pauses: Vec<_> = (0..20).map(|_| wait(second, None)).collect();
        assert!(pauses.iter().all(|p| (second / 2..=second).contains(p)), "{pauses:?}");
        assert!(pauses.iter().any(|p| *p != pauses[0]), "{pauses:?}");
        assert_eq!(wait(second, Some(5 * second)), 5 * second);
        assert_eq!(wait(second, Some(3600 * second)), LONGEST_PAUSE);
        assert!(wait(second, Some(Duration::ZERO)) >= second / 2);
    }
}
