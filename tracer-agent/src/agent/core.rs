//! The pure core as one machine: inputs go in, verdicts come out.
//!
//! Everything that can change what is said passes through [`Core::take`], in one order. So a recording of the inputs
//! gives the same verdicts again, and the agent and a replay cannot differ: both are this.

use std::net::SocketAddr;

use crate::event::{Event, QueueDrops};
use crate::output::Origin;
use crate::table::{Fill, Learned, Question, Settings, Tables};
use crate::verdict::{self, Verdict};

/// What happens to the core. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and nearly all of them are events")]
pub enum Input {
    /// The kernel saw something.
    Event(Event),
    /// The kernel had dropped handshakes, and fired no hook.
    Drops(QueueDrops),
    /// The next ended connection that is due has waited for its story until now.
    Settle { now_ns: u64 },
    /// Time passes, about once a second; the wall clock may have been stepped.
    Tick { now_ns: u64, clock_offset_ns: i64 },
}

/// The tables, the rules, and the clock on which verdicts are told.
#[derive(Clone, Debug)]
pub struct Core {
    tables: Tables,
    origin: Origin,
}

impl Core {
    #[must_use]
    pub fn new(settings: Settings, origin: Origin) -> Self {
        Self { tables: Tables::new(settings), origin }
    }

    /// Takes an input in; one input gives one verdict at most.
    pub fn take(&mut self, input: Input) -> Option<Verdict> {
        let ended = match input {
            Input::Event(event) => self.tables.apply(event),
            Input::Drops(drops) => {
                self.tables.dropped(drops);
                None
            }
            Input::Settle { now_ns } => self.tables.settled(now_ns),
            Input::Tick { now_ns, clock_offset_ns } => {
                self.origin.clock_offset_ns = clock_offset_ns;
                self.tables.expire(now_ns);
                None
            }
        };
        verdict::of(&self.tables, &ended?)
    }

    /// When [`Input::Settle`] next has something to judge.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.tables.next_due()
    }

    /// What the kernel should be asked, so that waiting ends can be judged. The answers go in as events; asking
    /// changes nothing that is said.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.tables.take_questions()
    }

    #[must_use]
    pub fn has_questions(&self) -> bool {
        self.tables.has_questions()
    }

    /// What is known of the upstreams that were dialled; asking changes nothing that is said.
    pub fn learned(&self, dialled: impl Iterator<Item = (SocketAddr, u32)>) -> Vec<Learned> {
        self.tables.known_of(dialled)
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How full each table is.
    #[must_use]
    pub fn fills(&self) -> Vec<Fill> {
        self.tables.fills()
    }
}
