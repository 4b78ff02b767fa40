//! All that is known around one end of a Unix socket.

use crate::event::{Exit, Process, UnixEnd, UnixHow};
use crate::table::{ClientLeft, Signalled, Tables};
use crate::verdict::fate::{Fate, killer};
use crate::verdict::{Cause, Culprit};

/// The evidence. Whatever is not known is None.
#[derive(Clone, Debug)]
pub struct Story<'a> {
    pub end: &'a UnixEnd,
    /// Why the process that served ended, if it did and had not closed before.
    pub server_death: Option<(Cause, Culprit)>,
    pub owner_exit: Option<Exit>,
    pub owner_signals: &'a [Signalled],
    pub client_left: Option<ClientLeft>,
    pub owner_listens: Vec<u16>,
    pub vantage: bool,
}

impl<'a> Story<'a> {
    pub fn gather(tables: &'a Tables, end: &'a UnixEnd) -> Self {
        let connection = &end.connection;
        let processes = tables.processes();
        let (server, owner) = (connection.server.as_ref(), connection.owner.as_ref());
        let sent_ns = connection.sent_ns.unwrap_or(end.ktime_ns);
        Self {
            end,
            server_death: server.filter(|_| !connection.server_closed).and_then(|server| {
                processes.exit_of(server)?;
                let serves = |parent: &Process| {
                    // A worker keeps its master's name until it takes one of its own.
                    connection.listener_tgid == Some(parent.tgid) || parent.comm == server.comm
                };
                let fate = Fate::gather(tables, server, end.ktime_ns, true, serves);
                fate.ending().map(|ending| (ending.cause, ending.culprit(server)))
            }),
            owner_exit: owner.and_then(|process| processes.exit_of(process)),
            owner_signals: owner.map_or(&[], |process| processes.signals_to(process)),
            client_left: owner
                .and_then(|owner| tables.client_behind(owner, connection.netns, end.ktime_ns, sent_ns)),
            owner_listens: owner.map_or_else(Vec::new, |owner| tables.listeners().ports_of(owner)),
            vantage: tables.settings().vantage,
        }
    }
}

impl Story<'_> {
    /// The other end has gone, or says no more.
    pub fn left(&self) -> bool {
        matches!(self.end.how, UnixHow::EndOfStream | UnixHow::Reset | UnixHow::Broken)
    }

    /// A request waits for its answer, or could not be sent any more.
    pub fn pending(&self) -> bool {
        self.end.connection.pending || self.end.how == UnixHow::Broken
    }

    /// The server has read something since the last message was sent, as far as it can be seen.
    pub fn request_was_read(&self) -> bool {
        let connection = &self.end.connection;
        connection.served_ns.is_some() && connection.served_ns >= connection.sent_ns
    }

    /// Milliseconds from an earlier moment to the end.
    pub fn ms_since(&self, ktime_ns: u64) -> f64 {
        self.end.ktime_ns.saturating_sub(ktime_ns) as f64 / 1e6
    }

    /// Age of the pending request.
    pub fn since_request_ms(&self) -> Option<f64> {
        let sent_ns = self.end.connection.sent_ns.filter(|_| self.end.connection.pending)?;
        Some(self.ms_since(sent_ns))
    }

    /// Another process that sent the signal which ended the owner.
    pub fn owner_killer(&self) -> Option<&Process> {
        killer(self.owner_exit, self.owner_signals, self.end.connection.owner.as_ref()?)
    }
}
