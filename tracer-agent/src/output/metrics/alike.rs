//! Connects that the kernel only counted, since they failed like one that was told: their number goes to its verdict.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tracer_ebpf::config::limit;
use tracer_ebpf::wire::{AlikeKey, UpstreamKey};

use crate::event::{Target, mapped};
use crate::table::{Bounded, Fill};
use crate::verdict::Verdict;

/// A verdict is out within a second of its event; what has none by then gets none.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without news for so long, a way to fail gives its place back.
const IDLE: Duration = Duration::from_secs(60);

/// Label values of the series of aborts that a verdict counts in; None: it harmed nobody.
pub type Series = Option<Vec<String>>;

/// What was told, and how much of what the kernel counted has been added to it.
#[derive(Debug)]
pub struct Alike {
    told: Bounded<AlikeKey, Series>,
    added: HashMap<AlikeKey, Added>,
}

#[derive(Clone, Copy, Debug)]
struct Added {
    count: u64,
    changed_ns: u64,
}

/// What a look at the kernel's counts gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// What is to be added to each series.
    pub counted: Vec<(Vec<String>, u64)>,
    /// Those whose like was never judged.
    pub lost: u64,
    /// Ways to fail that have had no news for long.
    pub idle: Vec<AlikeKey>,
}

impl Default for Alike {
    fn default() -> Self {
        // Each connect that fails is noted, whether the kernel counts others like it or not.
        let ttl = u64::try_from(2 * IDLE.as_nanos()).unwrap_or(u64::MAX);
        Self { told: Bounded::new("connects_alike", 4 * limit::ALIKE, ttl), added: HashMap::new() }
    }
}

impl Alike {
    /// A connect that failed was judged.
    pub fn told(&mut self, verdict: &Verdict, series: Series) {
        let (Some(shape), Some(Target::Tcp(address))) = (verdict.shape, &verdict.upstream) else { return };
        self.told.insert(key(*address, verdict.netns, shape), series, verdict.ktime_ns);
    }

    /// Takes in how many the kernel has counted by now.
    pub fn look(&mut self, rows: &[(AlikeKey, u64)], now_ns: u64) -> News {
        let mut news = News::default();
        for (key, count) in rows {
            let added = self.added.entry(*key).or_insert(Added { count: 0, changed_ns: now_ns });
            let more = count.saturating_sub(added.count);
            let unchanged = Duration::from_nanos(now_ns.saturating_sub(added.changed_ns));
            if more == 0 {
                if unchanged >= IDLE {
                    news.idle.push(*key);
                }
                continue;
            }
            match self.told.get(key) {
                Some(Some(series)) => news.counted.push((series.clone(), more)),
                Some(None) => {}
                None if unchanged < PATIENCE => continue,
                None => news.lost += more,
            }
            *added = Added { count: *count, changed_ns: now_ns };
        }
        self.told.expire(now_ns);
        news
    }

    /// A way to fail has given its place back. Returns how many of its `count` have not been added.
    pub fn forget(&mut self, key: &AlikeKey, count: u64) -> u64 {
        count.saturating_sub(self.added.remove(key).map_or(0, |added| added.count))
    }

    pub fn fill(&self) -> Fill {
        self.told.fill()
    }
}

fn key(address: SocketAddr, netns: u32, shape: u32) -> AlikeKey {
    let upstream = UpstreamKey { address: mapped(address.ip()), netns, port: address.port().into() };
    AlikeKey { upstream, shape, reserved: 0 }
}

#[cfg(test)]
mod tests {
    use super::{Alike, News, key};
    use crate::event::Target;
    use crate::output::fixture;
    use crate::verdict::Verdict;

    const SECOND: u64 = 1_000_000_000;

    fn refused(shape: u32, ktime_ns: u64) -> Verdict {
        let upstream = Some(Target::Tcp(([127, 0, 0, 1], 9000).into()));
        Verdict { upstream, netns: 7, shape: Some(shape), ktime_ns, ..fixture::oom_killed() }
    }

    fn series(cause: &str) -> Vec<String> {
        vec!["127.0.0.1:9000".to_owned(), cause.to_owned()]
    }

    #[test]
    fn what_the_kernel_counts_goes_to_the_last_verdict_on_its_like() {
        let mut alike = Alike::default();
        let at = key(([127, 0, 0, 1], 9000).into(), 7, 5);
        alike.told(&refused(5, 0), Some(series("first")));
        let counted = |cause, count| News { counted: vec![(series(cause), count)], ..News::default() };
        assert_eq!(alike.look(&[(at, 10)], SECOND), counted("first", 10));
        assert_eq!(alike.look(&[(at, 10)], 2 * SECOND), News::default());
        alike.told(&refused(5, 2 * SECOND), Some(series("second")));
        assert_eq!(alike.look(&[(at, 25)], 3 * SECOND), counted("second", 15));
        // Others have other places.
        alike.told(&refused(6, 3 * SECOND), Some(series("third")));
        assert_eq!(alike.look(&[(at, 26)], 4 * SECOND), counted("second", 1));
    }

    #[test]
    fn what_harmed_nobody_is_not_counted_and_what_was_not_judged_is_lost() {
        let mut alike = Alike::default();
        let [quiet, unknown] = [5, 6].map(|shape| key(([127, 0, 0, 1], 9000).into(), 7, shape));
        alike.told(&refused(5, 0), None);
        assert_eq!(alike.look(&[(quiet, 10), (unknown, 3)], SECOND), News::default());
        let lost = News { lost: 4, ..News::default() };
        assert_eq!(alike.look(&[(quiet, 20), (unknown, 4)], 7 * SECOND), lost);
    }

    #[test]
    fn a_place_is_given_back_after_a_minute_without_news() {
        let mut alike = Alike::default();
        let at = key(([127, 0, 0, 1], 9000).into(), 7, 5);
        alike.told(&refused(5, 0), Some(series("first")));
        alike.look(&[(at, 10)], SECOND);
        assert_eq!(alike.look(&[(at, 10)], 60 * SECOND).idle, []);
        assert_eq!(alike.look(&[(at, 10)], 61 * SECOND).idle, [at]);
        assert_eq!(alike.forget(&at, 12), 2);
        assert_eq!(alike.look(&[], 62 * SECOND), News::default());
    }
}
