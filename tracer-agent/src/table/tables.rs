//! All tables together: events go in, ended connections come out when they can be judged.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::ages::{Ages, Closing, Repetition};
use super::bounded::Fill;
use super::bursts::{Burst, Bursts};
use super::connections::Connections;
use super::connects::Connects;
use super::learned::Learned;
use super::legs::{ClientLeft, Legs};
use super::listeners::{LastListener, Listeners, Queue};
use super::lookups::Lookups;
use super::namespaces::Namespaces;
use super::processes::Processes;
use super::questions::{Question, Questions};
use super::queue_drops::Drops;
use super::unix_paths::UnixPaths;
use super::waiting::{Ended, Waiting};
use crate::event::{Event, Process, QueueDrops, Role, SocketEnd, TcpState};

/// What the tables have to know of the host.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Jiffies in a second.
    pub hz: u32,
    /// Only one namespace is looked at: nothing else on this host may serve as proof.
    pub vantage: bool,
    /// `CLOCK_BOOTTIME`, in which processes are started, minus `CLOCK_MONOTONIC`, nanoseconds: how long the host had
    /// slept when the agent started. A sleep after that is not counted.
    pub suspended_ns: u64,
}

/// The state of the core.
#[derive(Clone, Debug)]
pub struct Tables {
    settings: Settings,
    waiting: Waiting,
    connections: Connections,
    legs: Legs,
    listeners: Listeners,
    lookups: Lookups,
    namespaces: Namespaces,
    processes: Processes,
    questions: Questions,
    ages: Ages,
    bursts: Bursts,
    connects: Connects,
    drops: Drops,
    unix_paths: UnixPaths,
}

impl Tables {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            waiting: Waiting::default(),
            connections: Connections::default(),
            legs: Legs::default(),
            listeners: Listeners::default(),
            lookups: Lookups::default(),
            namespaces: Namespaces::default(),
            processes: Processes::default(),
            questions: Questions::default(),
            ages: Ages::default(),
            bursts: Bursts::default(),
            connects: Connects::default(),
            drops: Drops::default(),
            unix_paths: UnixPaths::default(),
        }
    }

    /// Takes an event in; returns what is to be judged without waiting.
    pub fn apply(&mut self, event: Event) -> Option<Ended> {
        self.note_namespaces(&event);
        match event {
            Event::SocketEnd(end) => {
                let told = self.ended(end);
                return self.learned(told);
            }
            Event::ResetSent(reset) => self.connections.reset(reset),
            Event::Listener(change) => self.listeners.changed(&change),
            Event::ProcessExit(exit) => {
                self.lookups.exited(&exit.process);
                for port in self.listeners.exited(&exit.process) {
                    self.questions.about_listeners(port);
                }
                self.processes.exited(&exit);
            }
            Event::Signal(signal) => self.processes.signalled(&signal),
            Event::OomVictim(victim) => self.processes.chosen_by_oom(&victim),
            Event::ConnectError(error) => {
                return (!self.connects.is_told(&error)).then_some(Ended::Connect(error));
            }
            Event::UnixEnd(end) => return self.waiting.push(Ended::Unix(end)),
            Event::UnixServer(server) => self.unix_paths.served(&server),
            Event::Existing(existing) => {
                if existing.state == TcpState::Listen {
                    self.listeners.existed(&existing);
                } else {
                    self.questions.found(&existing);
                }
            }
            Event::DnsQuery(query) => self.lookups.asked(query),
            Event::DnsAnswer(answer) => self.lookups.answered(&answer),
        }
        None
    }

    /// The kernel counted handshakes that it dropped.
    pub fn dropped(&mut self, drops: QueueDrops) {
        self.drops.counted(drops);
    }

    /// The next end whose story has had its time at `now`.
    pub fn settled(&mut self, now: u64) -> Option<Ended> {
        let told = self.waiting.settled(now).or_else(|| self.lookups.settled(now).map(Ended::Lookup));
        self.learned(told)
    }

    /// What the kernel should be asked, so that waiting ends can be judged; its answers are events.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.questions.take()
    }

    /// Whether there is anything to ask.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        self.questions.any()
    }

    /// The full accept queue that this end ran into, with who listens there.
    #[must_use]
    pub fn full_queue(&self, end: &SocketEnd) -> Option<(Queue, Option<Process>)> {
        self.listeners.full_queue(end.tuple.peer, end.tuple.netns, end.ktime_ns)
    }

    /// Handshakes that the kernel dropped while this connection was there, in the namespace of the listener on this host
    /// that it dialled. Whose they were it does not say.
    #[must_use]
    pub fn queue_drops(&self, end: &SocketEnd) -> Option<QueueDrops> {
        let connecting = end.old_state == TcpState::SynSent || end.pending && end.exchanges == 0;
        let opened =
            end.opened_ns.filter(|_| end.role == Role::Client && connecting && !self.drops.is_empty())?;
        let netns = self.listeners.namespace_of(end.tuple.peer, end.tuple.netns)?;
        self.drops.between(netns, opened, end.ktime_ns)
    }

    /// Whether the accepted end of this connection was found alive after this one had ended.
    #[must_use]
    pub fn other_end_lives(&self, end: &SocketEnd) -> bool {
        self.questions.other_end_lives(end)
    }

    /// When [`Tables::settled`] next has something to say.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        [self.waiting.next_due(), self.lookups.next_due()].into_iter().flatten().min()
    }

    /// Forgets what is too old to explain anything; worth a call a second.
    pub fn expire(&mut self, now: u64) {
        self.connections.expire(now);
        self.legs.expire(now);
        self.listeners.expire(now);
        self.lookups.expire(now);
        self.namespaces.expire(now);
        self.processes.expire(now);
        self.questions.expire(now);
        self.ages.expire(now);
        self.bursts.expire(now);
        self.connects.expire(now);
        self.drops.expire(now);
        self.unix_paths.expire(now);
    }

    /// How full each table is.
    #[must_use]
    pub fn fills(&self) -> Vec<Fill> {
        let mut fills = vec![self.waiting.fill()];
        fills.extend(self.connections.fills());
        fills.extend(self.listeners.fills());
        fills.extend(self.lookups.fills());
        fills.extend([self.legs.fill(), self.ages.fill(), self.bursts.fill()]);
        fills.extend([self.namespaces.fill(), self.processes.fill()]);
        fills.extend([self.connects.fill(), self.drops.fill(), self.unix_paths.fill()]);
        fills.extend(self.questions.fills());
        fills
    }

    /// The client whose leaving made the process behind `end` close it.
    #[must_use]
    pub fn client_left(&self, end: &SocketEnd) -> Option<ClientLeft> {
        let owner = end.actor.as_ref()?;
        let request_ns = match end.opened_ns {
            Some(opened) if end.old_state == TcpState::SynSent => opened,
            _ => end.ktime_ns.saturating_sub(u64::from(end.request_age()) * self.tick_ns()),
        };
        self.legs.behind(owner, end.tuple.netns, end.ktime_ns, request_ns, &self.listeners)
    }

    /// The client whose leaving made `owner` close a connection at `closed_ns`.
    #[must_use]
    pub fn client_behind(
        &self,
        owner: &Process,
        netns: u32,
        closed_ns: u64,
        sent_ns: u64,
    ) -> Option<ClientLeft> {
        self.legs.behind(owner, netns, closed_ns, sent_ns, &self.listeners)
    }

    #[must_use]
    pub fn unix_paths(&self) -> &UnixPaths {
        &self.unix_paths
    }

    /// Who listened last at the address dialled, where this host refused.
    #[must_use]
    pub fn last_listener(&self, end: &SocketEnd) -> Option<LastListener> {
        let netns = end.refused_in_netns?;
        self.listeners.last(end.tuple.peer, netns, &self.processes)
    }

    /// How the age at which `end` was given up compares with those before.
    #[must_use]
    pub fn repetition(&self, end: &SocketEnd) -> Option<Repetition> {
        self.ages.repetition(&upstream(end), &self.closing(end)?)
    }

    /// What else of its upstream ended together with `end`.
    #[must_use]
    pub fn burst(&self, end: &SocketEnd) -> Option<Burst> {
        self.bursts.around(&upstream(end), end.ktime_ns).filter(|_| end.role == Role::Client)
    }

    /// What is known of the upstreams that were dialled, and of all others whose timeouts are remembered.
    pub fn known_of(&self, dialled: impl Iterator<Item = (SocketAddr, u32)>) -> Vec<Learned> {
        let upstreams: HashSet<_> = dialled.chain(self.ages.upstreams()).collect();
        let learned = upstreams.into_iter().map(|(upstream, netns)| Learned {
            upstream,
            netns,
            timeouts: self.ages.timeouts(&(upstream, netns)),
            listener: self.listeners.at_address(upstream, netns, &self.processes),
        });
        learned.collect()
    }

    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    #[must_use]
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    #[must_use]
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// What was learned of a network namespace is not true of the next that gets its number.
    fn note_namespaces(&mut self, event: &Event) {
        for (netns, cookie) in event.namespaces() {
            if self.namespaces.seen(netns, cookie, event.ktime_ns()) {
                self.listeners.forget(netns);
                self.ages.forget(netns);
                self.bursts.forget(netns);
                self.drops.forget(netns);
            }
        }
    }

    fn ended(&mut self, end: SocketEnd) -> Option<Ended> {
        if end.role == Role::Server {
            self.legs.ended(&end, self.tick_ns());
            if end.old_state == TcpState::CloseWait {
                return None;
            }
        }
        if end.old_state == TcpState::SynSent {
            self.connects.failed(&end);
        }
        self.questions.about(&end, &self.listeners);
        self.note_burst(&end);
        if self.connections.ended(&end) {
            return self.waiting.push(Ended::Socket(end));
        }
        Some(Ended::Socket(end))
    }

    /// What ends together is known when it ends, before the first of it is judged.
    fn note_burst(&mut self, end: &SocketEnd) {
        if end.role != Role::Client {
            return;
        }
        if end.old_state == TcpState::SynSent {
            if end.rst_received {
                self.bursts.refused(upstream(end), end.ktime_ns);
            }
        } else if end.pending && (end.new_state == TcpState::CloseWait || end.rst_received) {
            let age =
                (end.retransmits_since_read == 0).then(|| self.tick_ms() * f64::from(end.request_age()));
            self.bursts.ended(upstream(end), end.ktime_ns, age);
        }
    }

    /// An end that has had its time teaches the age at which it was given up.
    fn learned(&mut self, told: Option<Ended>) -> Option<Ended> {
        if let Some(Ended::Socket(end)) = &told
            && let Some(closing) = self.closing(end)
        {
            self.ages.closed(upstream(end), closing);
        }
        told
    }

    fn closing(&self, end: &SocketEnd) -> Option<Closing> {
        let other = self.connections.other_end(end);
        Closing::of(end, other, self.client_left(end).is_some(), self.tick_ms())
    }

    fn tick_ms(&self) -> f64 {
        1000.0 / f64::from(self.settings.hz.max(1))
    }

    fn tick_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.settings.hz.max(1))
    }
}

/// The upstream that a socket of role client dialled.
fn upstream(end: &SocketEnd) -> (SocketAddr, u32) {
    (end.tuple.peer, end.tuple.netns)
}
