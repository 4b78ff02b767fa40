//! The table's contents: verdicts and moments in, rows out.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::pace::{Pace, Rate};
use super::row::{Order, Row};
use super::upstream::{Counts, Upstream};
use crate::output::state::UpstreamState;
use crate::output::{Omitted, VerdictView};
use crate::verdict::Impact;

/// Upstreams at one time.
pub const MAX_UPSTREAMS: usize = 2_000;
/// Verdicts that an upstream keeps, as long as there are few upstreams.
pub const MAX_VERDICTS: usize = 50;
/// Verdicts that all of them keep together, about; each takes some 1.5 kB.
const ALL_VERDICTS: usize = 10_000;
/// Upstreams that make room at once: finding them takes a look at all.
const ROOM: usize = MAX_UPSTREAMS / 16;

/// What a row stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The upstream, or what was listened on.
    pub target: String,
    /// Whose network it was seen from: `host` or a container.
    pub scope: String,
}

/// Every upstream with verdicts since it was begun.
#[derive(Clone, Debug, Default)]
pub struct Board {
    upstreams: HashMap<Key, Upstream>,
    counts: Counts,
    pace: Pace,
    newest: Option<Timestamp>,
    /// Upstreams that had to make room.
    fell_out: u64,
    omitted: u64,
    learned: HashMap<Key, UpstreamState>,
}

impl Key {
    #[must_use]
    pub fn of(view: &VerdictView) -> Self {
        let target = view.upstream.as_ref().or(view.listener.as_ref()).map_or("-", String::as_str);
        Self { target: target.to_owned(), scope: view.scope.clone() }
    }
}

impl Board {
    /// Counts a verdict.
    pub fn take(&mut self, view: VerdictView) {
        let key = Key::of(&view);
        let view = Arc::new(view);
        self.counts.add(view.impact);
        if view.impact != Impact::None {
            self.pace.add(view.time);
        }
        self.newest = self.newest.max(Some(view.time));
        let before = self.share();
        if !self.upstreams.contains_key(&key) {
            self.make_room();
        }
        let share = self.share();
        self.upstreams.entry(key).or_insert_with(|| Upstream::new(&view)).take(view, share);
        if self.share() < before {
            let share = self.share();
            self.upstreams.values_mut().for_each(|upstream| upstream.keep(share));
        }
    }

    /// Counts lines that the agent has left out.
    pub fn miss(&mut self, omitted: &Omitted) {
        self.omitted += omitted.count;
    }

    /// What the agent has learned of its upstreams until now.
    pub fn learn(&mut self, upstreams: Vec<UpstreamState>) {
        let key = |state: &UpstreamState| Key { target: state.upstream.clone(), scope: state.scope.clone() };
        self.learned = upstreams.into_iter().map(|state| (key(&state), state)).collect();
    }

    /// What the agent has learned of one.
    #[must_use]
    pub fn learned(&self, key: &Key) -> Option<&UpstreamState> {
        self.learned.get(key)
    }

    /// The time of the newest verdict.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Of all upstreams, those that made room included.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Of all upstreams.
    #[must_use]
    pub fn rate(&self, now: Timestamp) -> Rate {
        self.pace.rate(self.moment(now))
    }

    /// Upstreams that had to make room for others.
    #[must_use]
    pub fn fell_out(&self) -> u64 {
        self.fell_out
    }

    /// Verdicts that the agent left out of its stream.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.upstreams.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }

    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Upstream> {
        self.upstreams.get(key)
    }

    /// The rows that hold each of the words, in that order.
    #[must_use]
    pub fn rows(&self, now: Timestamp, order: Order, words: &[String]) -> Vec<Row<'_>> {
        let now = self.moment(now);
        let mut rows: Vec<_> = self
            .upstreams
            .iter()
            .map(|(key, upstream)| Row::new(key, upstream, self.learned.get(key), now))
            .filter(|row| words.iter().all(|word| row.holds(word)))
            .collect();
        rows.sort_by(|a, b| order.compare(a, b));
        rows
    }

    /// Now, on the agent's clock as far as it is known: its verdicts are never in the future.
    fn moment(&self, now: Timestamp) -> Timestamp {
        self.newest.map_or(now, |newest| newest.max(now))
    }

    /// How many verdicts each may keep.
    fn share(&self) -> usize {
        (ALL_VERDICTS / self.upstreams.len().max(1)).clamp(1, MAX_VERDICTS)
    }

    /// Those that lost least go first, and of these the oldest: a port scan takes nobody's place.
    fn make_room(&mut self) {
        if self.upstreams.len() < MAX_UPSTREAMS {
            return;
        }
        let mut ranked: Vec<_> =
            self.upstreams.iter().map(|(key, u)| (u.counts, u.last, key.clone())).collect();
        ranked.sort_unstable();
        for (_, _, key) in ranked.into_iter().take(ROOM) {
            self.upstreams.remove(&key);
            self.fell_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture::{at, lost, now};
    use crate::top::row::Column;
    use crate::verdict::{By, Cause};

    fn targets(board: &Board, order: Order, words: &[&str]) -> Vec<String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        board.rows(now(), order, &words).iter().map(|row| row.key.target.clone()).collect()
    }

    fn board() -> Board {
        let mut board = Board::default();
        for (target, second) in
            [("10.0.0.1:80", 1), ("10.0.0.2:80", 2), ("10.0.0.2:80", 3), ("unix:/run/a", 9)]
        {
            board.take(lost(target, second));
        }
        board
    }

    #[test]
    fn the_upstream_that_lost_most_is_first() {
        assert_eq!(
            targets(&board(), Order::default(), &[]),
            ["10.0.0.2:80", "unix:/run/a", "10.0.0.1:80"],
            "and among equals the one seen last"
        );
        let order = Order { by: Column::Upstream, reversed: false };
        assert_eq!(targets(&board(), order, &[]), ["10.0.0.1:80", "10.0.0.2:80", "unix:/run/a"]);
        let order = Order { by: Column::Seen, reversed: true };
        assert_eq!(targets(&board(), order, &[]), ["10.0.0.1:80", "10.0.0.2:80", "unix:/run/a"]);
    }

    #[test]
    fn words_narrow_it() {
        assert_eq!(targets(&board(), Order::default(), &["RUN"]), ["unix:/run/a"]);
        assert_eq!(targets(&board(), Order::default(), &["oom", "10.0.0.1"]), ["10.0.0.1:80"]);
        assert!(targets(&board(), Order::default(), &["oom", "nothing"]).is_empty());
    }

    #[test]
    fn the_same_address_in_another_network_is_another_row() {
        let mut board = board();
        board.take(VerdictView { scope: "web".to_owned(), ..lost("10.0.0.1:80", 4) });
        assert_eq!(board.len(), 4);
    }

    #[test]
    fn what_harmed_nobody_is_counted_apart_and_hides_no_cause() {
        let mut board = Board::default();
        board.take(lost("a", 1));
        board.take(VerdictView {
            impact: Impact::None,
            cause: Cause::Graceful,
            by: By::Gateway,
            ..lost("a", 2)
        });
        board.take(VerdictView { impact: Impact::Unknown, ..lost("a", 3) });
        let rows = board.rows(at(3), Order::default(), &[]);
        let upstream = rows[0].upstream;
        assert_eq!(upstream.counts, Counts { lost: 1, unsure: 1, harmless: 1 });
        assert_eq!(upstream.latest.cause, Cause::OomKilled);
        assert_eq!(
            upstream.endings(),
            [(By::Upstream, Cause::OomKilled, 2), (By::Gateway, Cause::Graceful, 1)]
        );
        assert_eq!(rows[0].rate, Rate { last_10s: 2, last_minute: 2 });
    }

    #[test]
    fn verdicts_are_kept_up_to_a_bound_and_the_rest_is_counted() {
        let mut board = Board::default();
        for second in 0..80 {
            board.take(lost("a", second));
        }
        let key = Key::of(&lost("a", 0));
        let upstream = board.get(&key).unwrap();
        assert_eq!(upstream.verdicts().count(), MAX_VERDICTS);
        assert_eq!(upstream.fell_out(), 30);
        assert_eq!(upstream.verdicts().next().unwrap().time, at(79));
    }

    #[test]
    fn many_upstreams_share_the_room_and_the_busy_one_stays() {
        let mut board = Board::default();
        for second in 0..80 {
            board.take(lost("busy", second));
        }
        for i in 0..5_000 {
            board.take(lost(&format!("10.0.{}.{}:80", i / 250, i % 250), 100 + i));
        }
        assert!(board.len() <= MAX_UPSTREAMS);
        assert_eq!(board.len() as u64 + board.fell_out(), 5_001);
        assert_eq!(board.counts().lost, 5_080);
        let busy = board.get(&Key::of(&lost("busy", 0))).unwrap();
        assert_eq!(busy.counts.lost, 80);
        let kept: usize = board.upstreams.values().map(|u| u.verdicts().count()).sum();
        assert!(kept <= ALL_VERDICTS, "{kept}");
    }
}
