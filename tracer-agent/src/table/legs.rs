//! Legs of clients at the gateway that ended with their request unanswered, for a short while: the gateway that
//! then drops its upstream connection did so since its client had gone.

use std::collections::VecDeque;

use super::bounded::Fill;
use super::listeners::Listeners;
use crate::event::{Process, SocketEnd, TcpState, Tuple};

/// Legs remembered; at 10,000 aborts a second this is more than the 250 ms in which a gateway reacts.
const CAPACITY: usize = 4096;
/// A gateway notices within one turn of its event loop; under load that turn is long.
const REACTION_NS: u64 = 250_000_000;
/// The upstream request follows the client's by the time it takes to choose and reach an upstream.
const FORWARDING_NS: u64 = 1_000_000_000;
/// Two clocks of 1/HZ, and some.
const SLACK_NS: u64 = 30_000_000;

/// A client that had gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLeft {
    pub tuple: Tuple,
    pub ktime_ns: u64,
    /// It reset the connection; otherwise it closed.
    pub reset: bool,
    /// The gateway's process closed this leg as well: that joins the two legs for certain.
    pub same_process: bool,
}

#[derive(Clone, Debug)]
struct Leg {
    left: ClientLeft,
    /// When the client's last data came in.
    request_ns: u64,
    closer: Option<Process>,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Legs {
    recent: VecDeque<Leg>,
    evicted: u64,
}

impl Legs {
    /// An accepted socket ended. Only those whose client left, and was owed an answer, are kept.
    pub fn ended(&mut self, end: &SocketEnd, tick_ns: u64) {
        if !end.unanswered && !end.answering {
            return;
        }
        match (end.old_state, end.new_state) {
            (TcpState::CloseWait, _) => {
                if let Some(leg) = self.recent.iter_mut().rev().find(|leg| leg.left.tuple == end.tuple) {
                    leg.closer.clone_from(&end.actor);
                }
            }
            (_, TcpState::CloseWait) => self.keep(end, false, tick_ns),
            (_, TcpState::Close) if end.rst_received => self.keep(end, true, tick_ns),
            _ => {}
        }
    }

    /// The client whose leaving made `owner` close an upstream connection at `now`, whose request was sent at
    /// `request_ns`.
    #[must_use]
    pub fn behind(
        &self,
        owner: &Process,
        netns: u32,
        closed_ns: u64,
        request_ns: u64,
        listeners: &Listeners,
    ) -> Option<ClientLeft> {
        self.recent
            .iter()
            .filter(|leg| leg.left.ktime_ns <= closed_ns && closed_ns - leg.left.ktime_ns <= REACTION_NS)
            .filter(|leg| {
                let earliest = leg.request_ns.saturating_sub(SLACK_NS);
                (earliest..=leg.request_ns + FORWARDING_NS).contains(&request_ns)
            })
            .filter_map(|leg| {
                let same_process = leg.closer.as_ref().is_some_and(|closer| closer.is(owner));
                let same_service = leg.closer.is_none()
                    && leg.left.tuple.netns == netns
                    && listeners.is_held_by(leg.left.tuple.local, netns, owner);
                (same_process || same_service).then(|| ClientLeft { same_process, ..leg.left.clone() })
            })
            .max_by_key(|left| (left.same_process, left.ktime_ns))
    }

    pub fn expire(&mut self, now: u64) {
        let keep_ns = 4 * REACTION_NS;
        while self.recent.front().is_some_and(|leg| leg.left.ktime_ns.saturating_add(keep_ns) < now) {
            self.recent.pop_front();
        }
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill { table: "client_legs", entries: self.recent.len(), capacity: CAPACITY, evicted: self.evicted }
    }

    fn keep(&mut self, end: &SocketEnd, reset: bool, tick_ns: u64) {
        if self.recent.len() == CAPACITY {
            self.recent.pop_front();
            self.evicted += 1;
        }
        let left = ClientLeft { tuple: end.tuple, ktime_ns: end.ktime_ns, reset, same_process: false };
        let request_ns = end.ktime_ns.saturating_sub(u64::from(end.lrcv_age) * tick_ns);
        self.recent.push_back(Leg { left, request_ns, closer: None });
    }
}
