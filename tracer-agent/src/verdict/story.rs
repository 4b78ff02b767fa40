//! All that is known around one ended connection, and the questions that rules ask of it.

use super::Impact;
use super::fate::{Ending, Fate, killer};
use crate::event::{Exit, Process, QueueDrops, ResetSent, Role, SocketEnd, TcpState};
use crate::table::{
    Burst, ClientLeft, LastListener, Processes, Queue, Repetition, Signalled, Tables, idle_limit,
};

/// Bytes of `GET / HTTP/1.1`, a Host of one letter, and the line ends; the frames of HTTP/2 named below have 9 to
/// 17. (Under TLS both are longer by the same, so a frame there may pass for a request.)
const SHORTEST_REQUEST: u32 = 27;

/// An end this long after the last data hits an idle connection, not the middle of a response.
pub const IDLE_MS: f64 = 1000.0;

/// Nobody gives up connecting sooner: a round trip through one machine room takes as long.
const SHORTEST_CONNECT_NS: u64 = 10_000_000;

/// How much later than half of a round trip a segment may arrive on one host.
const DELIVERY_NS: u64 = 1_000_000;

/// The evidence. Whatever is not known is None.
#[derive(Clone, Debug)]
pub struct Story<'a> {
    pub end: &'a SocketEnd,
    /// The other end, where it is on this host and had something to tell.
    pub other: Option<&'a SocketEnd>,
    /// The RST that this socket sent.
    pub reset: Option<&'a ResetSent>,
    pub other_reset: Option<&'a ResetSent>,
    /// How the process behind the accepted end ended, and the signals that reached it.
    pub upstream_exit: Option<Exit>,
    pub upstream_signals: &'a [Signalled],
    /// Why that process let go of the connection.
    pub fate: Option<Fate<'a>>,
    /// The same of the process that closed this end.
    pub owner_exit: Option<Exit>,
    pub owner_signals: &'a [Signalled],
    pub client_left: Option<ClientLeft>,
    /// Of the address dialled, if this host refused.
    pub last_listener: Option<LastListener>,
    /// The full accept queue at the address dialled, as the kernel said when it was asked, with who listens there.
    pub full_queue: Option<(Queue, Option<Process>)>,
    /// Handshakes that the kernel dropped meanwhile in the namespace of the listener dialled, whosever they were.
    pub queue_drops: Option<QueueDrops>,
    /// The accepted end was found alive after this one had ended.
    pub other_end_lives: bool,
    /// How the age at which this one was given up compares with those before.
    pub repetition: Option<Repetition>,
    /// What else of its upstream ended together with it.
    pub burst: Option<Burst>,
    /// Ports on which the owner, or its parent, listens.
    pub owner_listens: Vec<u16>,
    pub hz: u32,
    pub vantage: bool,
}

impl<'a> Story<'a> {
    /// Gathers what the tables know around an ended connection. None: the line is the other end's.
    #[must_use]
    pub fn gather(tables: &'a Tables, end: &'a SocketEnd) -> Option<Self> {
        let connections = tables.connections();
        let other = match end.role {
            Role::Client => connections.other_end(end),
            // One line a connection: the client's, where both ends are seen.
            Role::Server if connections.client_is_here(end) => return None,
            Role::Server => None,
        };
        let processes = tables.processes();
        let upstream = match end.role {
            Role::Client => other.and_then(|o| o.actor.as_ref()),
            Role::Server => end.actor.as_ref(),
        };
        let owner = end.actor.as_ref();
        Some(Self {
            end,
            other,
            reset: connections.reset_of(end),
            other_reset: other.and_then(|o| connections.reset_of(o)),
            upstream_exit: upstream.and_then(|process| dying(processes, process)),
            fate: other.or((end.role == Role::Server).then_some(end)).and_then(|end| fate(tables, end)),
            upstream_signals: upstream.map_or(&[], |process| processes.signals_to(process)),
            owner_exit: owner.and_then(|process| dying(processes, process)),
            owner_signals: owner.map_or(&[], |process| processes.signals_to(process)),
            client_left: tables.client_left(end),
            last_listener: tables.last_listener(end),
            full_queue: tables.full_queue(end),
            queue_drops: tables.queue_drops(end),
            other_end_lives: tables.other_end_lives(end),
            repetition: tables.repetition(end),
            burst: tables.burst(end),
            owner_listens: end
                .owner
                .as_ref()
                .map_or_else(Vec::new, |owner| tables.listeners().ports_of(owner)),
            hz: tables.settings().hz,
            vantage: tables.settings().vantage,
        })
    }
}

impl Story<'_> {
    /// The connection was never established.
    #[must_use]
    pub fn connecting(&self) -> bool {
        self.end.old_state == TcpState::SynSent
    }

    #[must_use]
    pub fn fin_received(&self) -> bool {
        self.end.new_state == TcpState::CloseWait
    }

    /// A RST ended it; one that answers what was written after the peer's FIN did not.
    #[must_use]
    pub fn rst_received(&self) -> bool {
        self.end.rst_received && self.end.old_state != TcpState::CloseWait
    }

    /// What the other end sent as it ended would have been here before this one ended: the way takes half of a round
    /// trip.
    #[must_use]
    pub fn too_late_for_a_segment_of(&self, other: &SocketEnd) -> bool {
        let way_ns = u64::from(self.end.srtt_us) * 1_000 + DELIVERY_NS;
        self.end.ktime_ns > other.ktime_ns.saturating_add(way_ns)
    }

    /// The process that holds this socket closed it, or shut it down.
    #[must_use]
    pub fn closed_here(&self) -> bool {
        self.end.closed_here()
    }

    /// No process has the accepted end yet: what came in it waits in the listener's accept queue.
    #[must_use]
    pub fn waits_to_be_accepted(&self) -> bool {
        self.other.is_some_and(|other| other.no_socket && other.unread > 0)
    }

    /// Milliseconds of a number of jiffies.
    #[must_use]
    pub fn ms(&self, jiffies: u32) -> f64 {
        f64::from(jiffies) * 1000.0 / f64::from(self.hz.max(1))
    }

    /// Age of the pending request; None where a retransmission has moved the clock or nothing is pending.
    #[must_use]
    pub fn since_request_ms(&self) -> Option<f64> {
        let known = self.end.pending && self.end.retransmits_since_read == 0;
        known.then(|| self.ms(self.end.request_age()))
    }

    /// The slowest answer of this upstream of late; 0 where none took 50 ms.
    #[must_use]
    pub fn slowest_answer_ms(&self) -> f64 {
        self.ms(self.end.slowest_answer)
    }

    /// After what time without data this upstream closes kept connections, if that repeats.
    #[must_use]
    pub fn idle_limit_ms(&self) -> Option<f64> {
        let seen = self.end.idle_ages.iter().filter(|age| **age > 0);
        idle_limit(&seen.map(|age| self.ms(*age)).collect::<Vec<_>>())
    }

    /// What a pending request costs. After an answer, something shorter than any request that a gateway sends is
    /// as likely a control frame (HTTP/2's PING, SETTINGS and WINDOW_UPDATE acknowledgements): two readings.
    #[must_use]
    pub fn request_impact(&self) -> Impact {
        if self.short_of_a_request() && self.end.exchanges > 0 {
            Impact::Unknown
        } else {
            Impact::RequestLost
        }
    }

    /// What was written since the last read is too short to be a request.
    #[must_use]
    pub fn short_of_a_request(&self) -> bool {
        self.end.written_since_read.is_some_and(|bytes| bytes < SHORTEST_REQUEST)
    }

    /// connect(2) was given up before any timeout can have run out: it was told by ICMP while its owner still held the
    /// socket, and took the error away before the socket was closed.
    #[must_use]
    pub fn gave_up_at_once(&self) -> bool {
        let opened = self.end.opened_ns.unwrap_or(0);
        let age_ns = self.end.ktime_ns.saturating_sub(opened);
        self.connecting() && self.end.sk_err == 0 && self.end.retransmits == 0 && age_ns < SHORTEST_CONNECT_NS
    }

    /// A request was written after the peer's FIN had come: its owner took the connection for an open one.
    #[must_use]
    pub fn written_after_fin(&self) -> bool {
        self.end.old_state == TcpState::CloseWait && self.end.pending
    }

    /// Data had come, and lately enough to be the middle of a response.
    #[must_use]
    pub fn in_a_response(&self) -> bool {
        self.end.bytes_received > 0 && self.idle_ms() < IDLE_MS
    }

    /// Time without data in either direction.
    #[must_use]
    pub fn idle_ms(&self) -> f64 {
        self.ms(self.end.lsnd_age.min(self.end.lrcv_age))
    }

    /// What made the process at the accepted end let go.
    #[must_use]
    pub fn ending(&self) -> Option<Ending<'_>> {
        self.fate.as_ref().and_then(Fate::ending)
    }

    /// The last signal that can have ended the process at the accepted end, sent by another process.
    #[must_use]
    pub fn upstream_killer(&self) -> Option<&Process> {
        let victim = self.other.unwrap_or(self.end).actor.as_ref()?;
        killer(self.upstream_exit, self.upstream_signals, victim)
    }

    /// The same for the process that closed this end.
    #[must_use]
    pub fn owner_killer(&self) -> Option<&Process> {
        killer(self.owner_exit, self.owner_signals, self.end.actor.as_ref()?)
    }
}

/// How a process ended, if it was dying when it closed the socket; an exit after that explains nothing.
fn dying(processes: &Processes, process: &Process) -> Option<Exit> {
    process.exit.and_then(|_| processes.exit_of(process))
}

fn fate<'a>(tables: &'a Tables, accepted: &'a SocketEnd) -> Option<Fate<'a>> {
    let process = accepted.actor.as_ref()?;
    let serves = |process: &Process| {
        tables.listeners().is_held_by(accepted.tuple.local, accepted.tuple.netns, process)
    };
    Some(Fate::gather(tables, process, accepted.ktime_ns, process.exit.is_some(), serves))
}
