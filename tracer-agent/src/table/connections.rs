//! Ended connections that wait for their story: the other end's record, the RST's reason, the exit that explains
//! it may all arrive a little later.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::bounded::{Bounded, Fill};
use crate::event::{ResetSent, Role, SocketEnd, TcpState, Tuple};

/// Ends that wait at once. When it is full the oldest is judged early, with what is known: nothing is lost.
const WAITING: usize = 8192;
/// Other ends and RSTs kept for the ends that wait.
const PARTS: usize = 8192;
const PARTS_TTL_NS: u64 = 2_000_000_000;
/// How long a story may take to arrive. The exit of a process comes before its sockets' ends, the other side's
/// record within a round trip on this host; what takes longest is the client's leg closed after the upstream's.
pub const SETTLE_NS: u64 = 200_000_000;
/// Bytes by which sequence numbers of the two ends of one connection may differ (what is in flight).
const WINDOW: u32 = 1 << 24;

type Pair = (SocketAddr, SocketAddr);

/// The table.
#[derive(Clone, Debug)]
pub struct Connections {
    waiting: VecDeque<SocketEnd>,
    judged_early: u64,
    /// Ends of accepted sockets, by their own pair of addresses: namespaces may repeat a pair, so several.
    server_ends: Bounded<Pair, Vec<SocketEnd>>,
    /// Ends of connecting sockets, to know that the other end of an accepted one is on this host.
    client_pairs: Bounded<Pair, ()>,
    resets: Bounded<Tuple, ResetSent>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            judged_early: 0,
            server_ends: Bounded::new("server_ends", PARTS, PARTS_TTL_NS),
            client_pairs: Bounded::new("client_pairs", PARTS, PARTS_TTL_NS),
            resets: Bounded::new("resets", PARTS, PARTS_TTL_NS),
        }
    }
}

impl Connections {
    /// Takes an end; returns the one that is to be judged at once: this one if there is nothing to wait for, the
    /// oldest if too many wait.
    pub fn ended(&mut self, end: SocketEnd) -> Option<SocketEnd> {
        let pair = (end.tuple.local, end.tuple.peer);
        match end.role {
            Role::Client => {
                // An answer from the network says it all; a connect that the gateway gave up may have its reason
                // in a client's leg.
                if end.old_state == TcpState::SynSent && end.sk_err != 0 {
                    return Some(end);
                }
                self.client_pairs.insert(pair, (), end.ktime_ns);
            }
            Role::Server => {
                let mut ends = self.server_ends.remove(&pair).unwrap_or_default();
                ends.push(end.clone());
                self.server_ends.insert(pair, ends, end.ktime_ns);
            }
        }
        self.waiting.push_back(end);
        if self.waiting.len() > WAITING {
            self.judged_early += 1;
            return self.waiting.pop_front();
        }
        None
    }

    pub fn reset(&mut self, reset: ResetSent) {
        let at = reset.ktime_ns;
        self.resets.insert(reset.tuple, reset, at);
    }

    /// The next end that has waited long enough at `now`.
    pub fn settled(&mut self, now: u64) -> Option<SocketEnd> {
        let due = self.waiting.front().is_some_and(|end| end.ktime_ns.saturating_add(SETTLE_NS) <= now);
        if due { self.waiting.pop_front() } else { None }
    }

    /// When the next end is due.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.waiting.front().map(|end| end.ktime_ns.saturating_add(SETTLE_NS))
    }

    /// The accepted end of the connection that `client` connected, if it is on this host: same addresses, and
    /// sequence numbers that fit, since two namespaces may use the same addresses.
    #[must_use]
    pub fn other_end(&self, client: &SocketEnd) -> Option<&SocketEnd> {
        let ends = self.server_ends.get(&(client.tuple.peer, client.tuple.local))?;
        // The record of its leaving ESTABLISHED tells the story; a later one only its tail.
        ends.iter().find(|server| joins(client, server))
    }

    /// Whether the connecting end of an accepted socket ended on this host as well.
    #[must_use]
    pub fn client_is_here(&self, server: &SocketEnd) -> bool {
        self.client_pairs.get(&(server.tuple.peer, server.tuple.local)).is_some()
    }

    /// The RST that a socket sent.
    #[must_use]
    pub fn reset_of(&self, end: &SocketEnd) -> Option<&ResetSent> {
        self.resets.get(&end.tuple)
    }

    pub fn expire(&mut self, now: u64) {
        self.server_ends.expire(now);
        self.client_pairs.expire(now);
        self.resets.expire(now);
    }

    #[must_use]
    pub fn fills(&self) -> [Fill; 4] {
        let waiting = Fill {
            table: "waiting",
            entries: self.waiting.len(),
            capacity: WAITING,
            evicted: self.judged_early,
        };
        [waiting, self.server_ends.fill(), self.client_pairs.fill(), self.resets.fill()]
    }
}

/// What one end has received is, but for what is in flight, what the other has sent.
fn joins(client: &SocketEnd, server: &SocketEnd) -> bool {
    let near = |a: u32, b: u32| a.wrapping_sub(b).wrapping_add(WINDOW) <= 2 * WINDOW;
    near(client.write_seq, server.rcv_nxt) && near(server.write_seq, client.rcv_nxt)
}
