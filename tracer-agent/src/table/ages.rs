//! The ages at which requests were given up unanswered, by upstream: an age that repeats is a timeout.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::bounded::{Bounded, Fill};
use crate::event::{Role, SocketEnd, TcpState};

/// Upstreams remembered; as many as /metrics names.
const UPSTREAMS: usize = 2048;
/// Closings remembered of one upstream.
const CLOSINGS: usize = 16;
/// A timeout that is hit a few times a day is still learned; an address may belong to another service tomorrow.
const TTL_NS: u64 = 6 * 3600 * 1_000_000_000;
/// What ends within this time may have one reason: a process that dies, a lost path.
const INSTANT_NS: u64 = 50_000_000;
/// Ages differ by less than this, or than this part of them, if one timer made them. A busy host's timers are late by
/// some tens of milliseconds.
const TOLERANCE_MS: f64 = 20.0;
const TOLERANCE_PART: f64 = 0.05;
/// Nobody configures a timeout for a request below this.
pub const SHORTEST_TIMEOUT_MS: f64 = 100.0;
/// Bytes that the peer's kernel takes before its application does: the usual first window.
const AT_ONCE: u32 = 65_536;
/// Times that an age has to come to be one that repeats.
const REPEATS: usize = 3;
/// An age among this many others at random is a coincidence.
const AMONG: usize = 4;

/// Address and network namespace.
type Key = (SocketAddr, u32);

/// Whose patience ended, and with what: only ages of one kind are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The upstream closed or reset with a request pending, and no death explains it.
    Upstream,
    /// The gateway waited for an answer.
    GatewayReading,
    /// The gateway had more to send than the upstream took.
    GatewaySending,
    /// The gateway was connecting.
    GatewayConnecting,
}

/// A wait that somebody ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closing {
    pub ktime_ns: u64,
    pub wait: Wait,
    pub age_ms: f64,
    /// The process that closed is known to have lived on, so that this has no reason in common with others.
    pub alive: bool,
}

/// How one closing's age compares with those before it at the same upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Repetition {
    pub wait: Wait,
    /// Of this closing.
    pub age_ms: f64,
    /// Closings of about this age, this one included. Those of one instant count as one.
    pub alike: usize,
    /// Closings that are remembered, this one included, counted likewise.
    pub of: usize,
    /// Of those alike.
    pub youngest_ms: f64,
    pub middle_ms: f64,
    pub oldest_ms: f64,
    /// There are three or more, and no two are alike.
    pub scattered: bool,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Ages {
    known: Bounded<Key, VecDeque<Closing>>,
}

impl Default for Ages {
    fn default() -> Self {
        Self { known: Bounded::new("ages", UPSTREAMS, TTL_NS) }
    }
}

impl Ages {
    pub fn closed(&mut self, upstream: Key, closing: Closing) {
        if closing.age_ms < SHORTEST_TIMEOUT_MS {
            return;
        }
        let mut closings = self.known.remove(&upstream).unwrap_or_default();
        if closings.len() == CLOSINGS {
            closings.pop_front();
        }
        closings.push_back(closing);
        self.known.insert(upstream, closings, closing.ktime_ns);
    }

    /// How `closing`, which is in the table, compares with the others of its kind.
    #[must_use]
    pub fn repetition(&self, upstream: &Key, closing: &Closing) -> Option<Repetition> {
        let recent = |c: &&Closing| c.ktime_ns.saturating_add(TTL_NS) > closing.ktime_ns;
        let closings = self.known.get(upstream)?;
        let all: Vec<_> = closings.iter().filter(|c| c.wait == closing.wait).filter(recent).collect();
        if !all.contains(&closing) {
            return None;
        }
        let mut same: Vec<_> = all.iter().copied().filter(|c| alike(c.age_ms, closing.age_ms)).collect();
        let instants = instants(&all);
        let (alike_count, of) = (self::instants(&same).len(), instants.len());
        same.sort_by(|a, b| a.age_ms.total_cmp(&b.age_ms));
        Some(Repetition {
            wait: closing.wait,
            age_ms: closing.age_ms,
            alike: alike_count,
            of: of.max(alike_count),
            youngest_ms: same.first()?.age_ms,
            middle_ms: same.get(same.len() / 2)?.age_ms,
            oldest_ms: same.last()?.age_ms,
            scattered: of >= REPEATS
                && alike_count == 1
                && pairwise(&instants).all(|(a, b)| !alike(a.age_ms, b.age_ms)),
        })
    }

    /// The age of each kind of wait that repeats at that upstream, the one that comes most often.
    #[must_use]
    pub fn timeouts(&self, upstream: &Key) -> Vec<Repetition> {
        let kinds = [Wait::Upstream, Wait::GatewayReading, Wait::GatewaySending, Wait::GatewayConnecting];
        let closings = self.known.get(upstream);
        let of = |wait| {
            let closings = closings.into_iter().flatten().filter(move |closing| closing.wait == wait);
            let repetitions = closings.filter_map(|closing| self.repetition(upstream, closing));
            repetitions.filter(Repetition::repeats).max_by_key(|repetition| repetition.alike)
        };
        kinds.into_iter().filter_map(of).collect()
    }

    /// The upstreams of which waits are remembered.
    pub fn upstreams(&self) -> impl Iterator<Item = Key> {
        self.known.keys().copied()
    }

    /// The number of this network namespace is another's now.
    pub fn forget(&mut self, netns: u32) {
        self.known.retain(|(_, at)| *at != netns);
    }

    pub fn expire(&mut self, now: u64) {
        self.known.expire(now);
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        self.known.fill()
    }
}

impl Closing {
    /// The wait that `end` ended, a tick being this long. None: it ended otherwise, or its age is not known.
    ///
    /// `other` is the accepted end, where it is on this host; `client_left`: the gateway's client had gone.
    #[must_use]
    pub fn of(end: &SocketEnd, other: Option<&SocketEnd>, client_left: bool, tick_ms: f64) -> Option<Self> {
        let idle_ms = f64::from(end.request_age()) * tick_ms;
        let (wait, age_ms) = if end.role != Role::Client {
            return None;
        } else if end.old_state == TcpState::SynSent {
            let gave_up = end.sk_err == 0 && by_a_live_gateway(end) && !client_left;
            let opened = end.opened_ns.filter(|_| gave_up)?;
            (Wait::GatewayConnecting, end.ktime_ns.saturating_sub(opened) as f64 / 1e6)
        } else if !end.pending || end.old_state != TcpState::Established {
            return None;
        } else if end.closed_here() && !end.half_closed() {
            if client_left || !by_a_live_gateway(end) {
                return None;
            }
            match (end.unacked, end.timeouts) {
                (0, _) => (Wait::GatewayReading, request_age(end, idle_ms)?),
                (_, 0) => (Wait::GatewaySending, idle_ms),
                _ => return None,
            }
        } else {
            let dying = other.and_then(|o| o.actor.as_ref()).is_some_and(|actor| actor.exit.is_some());
            // An idle close that crossed the request on the way was not a wait for it to end.
            let crossed = end.new_state == TcpState::CloseWait && end.request_had_not_arrived();
            let ended = end.new_state == TcpState::CloseWait || end.rst_received;
            if dying || crossed || !ended {
                return None;
            }
            (Wait::Upstream, upstream_age(end, idle_ms)?)
        };
        Some(Self { ktime_ns: end.ktime_ns, wait, age_ms, alive: other.is_some_and(|o| o.actor.is_some()) })
    }
}

/// A server's timers count from the beginning of a request. A long body's end is sent when the server takes it, which
/// may be while it closes, so such a request counts from the opening of its connection.
fn upstream_age(end: &SocketEnd, idle_ms: f64) -> Option<f64> {
    let long = end.exchanges == 0 && end.written_since_read.is_some_and(|bytes| bytes > AT_ONCE);
    let opened = end.opened_ns.filter(|_| long);
    opened.map_or_else(|| request_age(end, idle_ms), |opened| Some(since(opened, end)))
}

/// Since the request was sent, if all of it was, and once; else since the connection was opened for it. (Who reads a
/// body slowly, or not at all, has counted from its beginning.)
fn request_age(end: &SocketEnd, idle_ms: f64) -> Option<f64> {
    let acknowledged = end.unacked == 0 || end.request_age() != end.lsnd_age;
    if acknowledged && end.retransmits_since_read == 0 {
        return Some(idle_ms);
    }
    end.opened_ns.filter(|_| end.exchanges == 0).map(|opened| since(opened, end))
}

fn since(opened_ns: u64, end: &SocketEnd) -> f64 {
    end.ktime_ns.saturating_sub(opened_ns) as f64 / 1e6
}

/// What a plain client does has limits of its own, which say nothing of the gateway's.
fn by_a_live_gateway(end: &SocketEnd) -> bool {
    end.owner_accepts && end.actor.as_ref().is_some_and(|actor| actor.exit.is_none())
}

impl Repetition {
    /// The age has come often enough to be a timer's.
    #[must_use]
    pub fn repeats(&self) -> bool {
        self.alike >= REPEATS && self.alike * AMONG >= self.of
    }
}

/// Whether one timer may have made both ages.
#[must_use]
pub fn alike(a_ms: f64, b_ms: f64) -> bool {
    (a_ms - b_ms).abs() <= TOLERANCE_MS.max(a_ms.max(b_ms) * TOLERANCE_PART)
}

/// The idle time after which an upstream closes kept connections, milliseconds: the youngest of those ages that
/// repeat. Where two limits are seen (several hosts behind one address) the one seen more often, else the shorter.
#[must_use]
pub fn idle_limit(ages_ms: &[f64]) -> Option<f64> {
    let groups = ages_ms.iter().filter_map(|age| {
        let group: Vec<f64> = ages_ms.iter().copied().filter(|other| alike(*age, *other)).collect();
        let youngest = group.iter().copied().min_by(f64::total_cmp)?;
        (group.len() >= REPEATS).then_some((group.len(), youngest))
    });
    groups.max_by(|(n, a), (m, b)| n.cmp(m).then(b.total_cmp(a))).map(|(_, youngest)| youngest)
}

/// A limit as it may be configured, milliseconds, to be rounded down: 5 s are measured as a tick less, and as some more
/// less where the answer before came late.
#[must_use]
pub fn as_configured(limit_ms: f64) -> f64 {
    limit_ms + (limit_ms / 40.0).clamp(10.0, 40.0)
}

/// One closing for each instant, but every one of which it is known that it had its own reason.
fn instants<'a>(closings: &[&'a Closing]) -> Vec<&'a Closing> {
    let mut by_time = closings.to_vec();
    by_time.sort_by_key(|c| c.ktime_ns);
    let mut counted: Vec<&Closing> = Vec::new();
    for closing in by_time {
        let apart = |last: &&Closing| closing.ktime_ns - last.ktime_ns > INSTANT_NS;
        if closing.alive || counted.last().is_none_or(apart) {
            counted.push(closing);
        }
    }
    counted
}

fn pairwise<'a>(closings: &'a [&Closing]) -> impl Iterator<Item = (&'a Closing, &'a Closing)> {
    closings.iter().enumerate().flat_map(|(at, a)| closings[at + 1..].iter().map(move |b| (*a, *b)))
}

#[cfg(test)]
mod tests;
