//! What no event says and the kernel can be asked: how full a listener's queue is (a SYN that finds it full is dropped
//! without a trace), who holds a listener whose holders have ended, and whether an accepted socket is still there (if
//! so, it was not the one that sent the RST).
//!
//! The answers come back as events, so that a recorded stream holds them too.

use super::bounded::{Bounded, Fill};
use super::listeners::Listeners;
use crate::event::errno::ETIMEDOUT;
use crate::event::{Existing, Role, SocketEnd, TcpState, Tuple};

/// Questions that wait to be asked; the next ones are not asked, and the verdict stays an inference.
const CAPACITY: usize = 64;
/// Answers kept for the ends that wait.
const ANSWERS: usize = 1024;
const ANSWERS_TTL_NS: u64 = 2_000_000_000;

/// The sockets that somebody wants to know of, by their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub local_port: u16,
    /// 0: the listeners on `local_port`.
    pub peer_port: u16,
}

/// Questions to the kernel, and what it said of accepted sockets.
#[derive(Clone, Debug)]
pub struct Questions {
    waiting: Vec<Question>,
    unasked: u64,
    alive: Bounded<Tuple, ()>,
}

impl Question {
    /// What it wants to know is how full a listener's queue is.
    #[must_use]
    pub fn is_about_a_queue(&self) -> bool {
        self.peer_port == 0
    }
}

impl Default for Questions {
    fn default() -> Self {
        Self { waiting: Vec::new(), unasked: 0, alive: Bounded::new("alive", ANSWERS, ANSWERS_TTL_NS) }
    }
}

impl Questions {
    /// Notes what would help to judge this end.
    pub fn about(&mut self, end: &SocketEnd, listeners: &Listeners) {
        if let Some(question) = question(end)
            && listeners.may_be_at(end.tuple.peer, end.tuple.netns)
        {
            self.ask(question);
        }
    }

    /// Notes that nobody known holds the listeners on `port` any more.
    pub fn about_listeners(&mut self, port: u16) {
        self.ask(Question { local_port: port, peer_port: 0 });
    }

    fn ask(&mut self, question: Question) {
        if self.waiting.contains(&question) {
            return;
        }
        if self.waiting.len() == CAPACITY {
            self.unasked += 1;
        } else {
            self.waiting.push(question);
        }
    }

    /// The questions that wait; they are the caller's to ask now.
    pub fn take(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.waiting)
    }

    #[must_use]
    pub fn any(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An accepted socket was found.
    pub fn found(&mut self, existing: &Existing) {
        if matches!(existing.state, TcpState::Established | TcpState::CloseWait) {
            self.alive.insert(existing.tuple, (), existing.ktime_ns);
        }
    }

    /// Whether the accepted end of the connection that `client` connected was found alive after that had ended.
    #[must_use]
    pub fn other_end_lives(&self, client: &SocketEnd) -> bool {
        self.alive.keys().any(|tuple| tuple.local == client.tuple.peer && tuple.peer == client.tuple.local)
    }

    pub fn expire(&mut self, now: u64) {
        self.alive.expire(now);
    }

    #[must_use]
    pub fn fills(&self) -> [Fill; 2] {
        let questions = Fill {
            table: "questions",
            entries: self.waiting.len(),
            capacity: CAPACITY,
            evicted: self.unasked,
        };
        [questions, self.alive.fill()]
    }
}

fn question(end: &SocketEnd) -> Option<Question> {
    if end.role != Role::Client {
        return None;
    }
    let listeners = Question { local_port: end.tuple.peer.port(), peer_port: 0 };
    let accepted = Question { peer_port: end.tuple.local.port(), ..listeners };
    let filtered = end.filtered_in_netns.or(end.answer_filtered_in_netns).is_some();
    if end.old_state == TcpState::SynSent {
        let silent = matches!(end.sk_err, 0 | ETIMEDOUT) && end.retransmits > 0;
        return (silent && !filtered && !end.unresolved).then_some(listeners);
    }
    if !end.pending || filtered {
        return None;
    }
    if end.rst_received {
        let explained = end.stranger || end.queue_reset || end.peer_ended_badly;
        return (!explained).then_some(accepted);
    }
    // Not one byte was acknowledged: the connection may be one that only this side believes in.
    let ghost = end.exchanges == 0 && u64::from(end.unacked) == end.bytes_sent && !end.queue_dropped;
    ghost.then_some(listeners)
}
