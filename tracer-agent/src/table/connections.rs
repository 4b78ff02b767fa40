//! Ended connections for those that wait for their story: the other end's record, the RST's reason.

use std::net::SocketAddr;

use super::bounded::{Bounded, Fill};
use crate::event::errno::ETIMEDOUT;
use crate::event::{ResetSent, Role, SocketEnd, TcpState, Tuple};

/// Other ends and RSTs kept for the ends that wait.
const PARTS: usize = 8192;
/// Ends remembered of one pair of addresses: a connection has two, and a host repeats a pair in some of its namespaces.
const ENDS_OF_A_PAIR: usize = 64;
const PARTS_TTL_NS: u64 = 2_000_000_000;
/// Bytes by which sequence numbers of the two ends of one connection may differ (what is in flight).
const WINDOW: u32 = 1 << 24;

type Pair = (SocketAddr, SocketAddr);

/// The table.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Ends of accepted sockets, by their own pair of addresses: namespaces may repeat a pair, so several.
    server_ends: Bounded<Pair, Vec<SocketEnd>>,
    /// Ends of connecting sockets, to know that the other end of an accepted one is on this host.
    client_pairs: Bounded<Pair, ()>,
    resets: Bounded<Tuple, ResetSent>,
    /// Ends that gave way to later ones of their pair.
    crowded_out: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            server_ends: Bounded::new("server_ends", PARTS, PARTS_TTL_NS),
            client_pairs: Bounded::new("client_pairs", PARTS, PARTS_TTL_NS),
            resets: Bounded::new("resets", PARTS, PARTS_TTL_NS),
            crowded_out: 0,
        }
    }
}

impl Connections {
    /// Takes an end; returns whether there is anything to wait for.
    pub fn ended(&mut self, end: &SocketEnd) -> bool {
        let pair = (end.tuple.local, end.tuple.peer);
        match end.role {
            Role::Client => {
                // An answer from the network says it all; a connect that was given up may have its reason in a
                // client's leg or in a listener's queue.
                if end.old_state == TcpState::SynSent && !matches!(end.sk_err, 0 | ETIMEDOUT) {
                    return false;
                }
                self.client_pairs.insert(pair, (), end.ktime_ns);
            }
            Role::Server => {
                let mut ends = self.server_ends.remove(&pair).unwrap_or_default();
                if ends.len() == ENDS_OF_A_PAIR {
                    ends.remove(0);
                    self.crowded_out += 1;
                }
                ends.push(end.clone());
                self.server_ends.insert(pair, ends, end.ktime_ns);
            }
        }
        true
    }

    pub fn reset(&mut self, reset: ResetSent) {
        let at = reset.ktime_ns;
        self.resets.insert(reset.tuple, reset, at);
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
        // Of what each pair has a bound of its own for, the one that is fullest.
        let pair = Fill {
            table: "server_ends_of_a_pair",
            entries: self.server_ends.values().map(Vec::len).max().unwrap_or_default(),
            capacity: ENDS_OF_A_PAIR,
            evicted: self.crowded_out,
        };
        [self.server_ends.fill(), pair, self.client_pairs.fill(), self.resets.fill()]
    }
}

/// What one end has received is, but for what is in flight, what the other has sent.
fn joins(client: &SocketEnd, server: &SocketEnd) -> bool {
    let near = |a: u32, b: u32| a.wrapping_sub(b).wrapping_add(WINDOW) <= 2 * WINDOW;
    near(client.write_seq, server.rcv_nxt) && near(server.write_seq, client.rcv_nxt)
}
