//! Why the process that served a connection let go of it: what it was told and by whom, and how it ended.
//!
//! It knows processes and signals, and nothing of sockets: the ends of TCP and of Unix sockets both ask it.

use super::{Cause, Culprit};
use crate::event::{Exit, Process};
use crate::table::{Exited, SETTLE_NS, Signalled, Tables};

/// HUP, INT, QUIT, USR2, TERM: what servers are told to stop or to reload with.
const ORDERS: [u32; 5] = [1, 2, 3, 12, 15];
const KILL: u32 = 9;

/// Supervisors wait for some time between the order and the KILL: systemd 90 s, Kubernetes 30 s, Docker 10 s.
const GRACE_NS: u64 = 100_000_000_000;
/// A handler closes what it serves within this time after the signal.
const HANDLED_NS: u64 = 1_000_000_000;
/// init holds the sockets of socket-activated services, and serves nobody.
const INIT: u32 = 1;

/// What is known of the process that closed the serving end.
#[derive(Clone, Debug)]
pub struct Fate<'a> {
    process: &'a Process,
    /// When it closed, `CLOCK_MONOTONIC` nanoseconds, as all times but the start of a process.
    closed_ns: u64,
    /// When the process was started.
    started_ns: u64,
    /// Its death closed the socket.
    died: Option<Exit>,
    /// It closed, and ended a moment later.
    ended_later: Option<Exited>,
    signals: &'a [Signalled],
    /// The signal of another process that made it let go.
    blow: Option<&'a Signalled>,
    /// What had reached its parent.
    parent_signals: &'a [Signalled],
    /// What had reached the sender of that blow.
    sender_signals: &'a [Signalled],
    /// The sender accepts connections at the address of this one, and lives.
    sender_serves: bool,
}

/// What made a process let go of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending<'a> {
    pub cause: Cause,
    pub exit: Option<Exit>,
    /// What another process sent to it.
    pub blow: Option<&'a Signalled>,
    /// What the sender of that, or the parent, had been told before.
    pub order: Option<&'a Signalled>,
}

impl<'a> Fate<'a> {
    /// Gathers what the tables know of `process`, which let go of a connection at `closed_ns`; `dying` if its death
    /// did that. `serves` says whether a process holds the listening socket of the connection.
    pub fn gather(
        tables: &'a Tables,
        process: &'a Process,
        closed_ns: u64,
        dying: bool,
        serves: impl FnOnce(&Process) -> bool,
    ) -> Self {
        let processes = tables.processes();
        let signals = processes.signals_to(process);
        let died = if dying { processes.exit_of(process) } else { None };
        let ended_later = processes
            .exited_of(process)
            .filter(|exited| !dying && exited.ktime_ns.saturating_sub(closed_ns) <= SETTLE_NS);
        let blow = blow(process, died, signals, closed_ns);
        let sender = blow.and_then(|signalled| signalled.sender.as_ref());
        Self {
            process,
            closed_ns,
            started_ns: process.start_boottime.saturating_sub(tables.settings().suspended_ns),
            died,
            ended_later,
            signals,
            blow,
            parent_signals: processes.signals_to_parent(process),
            sender_signals: sender.map_or(&[], |sender| processes.signals_to(sender)),
            sender_serves: sender.is_some_and(|sender| {
                sender.tgid != INIT && processes.exit_of(sender).is_none() && serves(sender)
            }),
        }
    }

    /// What made it let go; None: it lives, nobody told it anything, and it has closed by itself.
    #[must_use]
    pub fn ending(&self) -> Option<Ending<'a>> {
        let exit = self.exit();
        let ending = |cause| Ending { cause, exit, blow: None, order: None };
        if self.died.is_some_and(|exit| exit.oom) {
            return Some(ending(Cause::OomKilled));
        }
        if let Some(blow) = self.blow {
            return Some(self.struck(blow));
        }
        if let Some(signal) = self.died.and_then(|exit| exit.signal) {
            // What the terminal sends (ctrl-C, a hangup) is an order too, and the kernel its messenger.
            let from_terminal = |s: &&Signalled| s.by_kernel && s.signal == u32::from(signal) && is_order(s);
            return Some(match self.signals.iter().rev().find(from_terminal) {
                Some(order) => Ending { blow: Some(order), ..ending(Cause::ServiceStopped) },
                None => ending(Cause::ProcessCrashed),
            });
        }
        if let Some(told) = self.told_before(self.closed_ns) {
            return Some(Ending { blow: Some(told), ..ending(Cause::ServiceStopped) });
        }
        if self.died.is_some()
            && let Some(order) = self.parent_told()
        {
            return Some(Ending { order: Some(order), ..ending(Cause::ServiceStopped) });
        }
        let exited = self.died.is_some()
            || self.ended_later.is_some_and(|later| later.exit.code.is_some_and(|code| code != 0));
        exited.then(|| ending(Cause::ProcessExited))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.died.or_else(|| self.ended_later.map(|later| later.exit))
    }

    /// How it ended after it had closed, and how many milliseconds after.
    #[must_use]
    pub fn ended_later(&self) -> Option<(Exit, f64)> {
        self.ended_later.map(|later| (later.exit, later.ktime_ns.saturating_sub(self.closed_ns) as f64 / 1e6))
    }

    fn struck(&self, blow: &'a Signalled) -> Ending<'a> {
        let order = self.order_behind(blow);
        let cause = if order.is_some() {
            Cause::ServiceStopped
        } else if blow.by_parent && self.sender_serves {
            Cause::WorkerTimeout
        } else if is_order(blow) || (blow.signal == KILL && self.told_before(blow.ktime_ns).is_some()) {
            Cause::ServiceStopped
        } else {
            Cause::ProcessKilled
        };
        Ending { cause, exit: self.exit(), blow: Some(blow), order }
    }

    /// What the sender had been told before, if it hands orders on: a parent does to those that it had by then, and
    /// the first process of a pid namespace takes all others of it along when it ends.
    fn order_behind(&self, blow: &Signalled) -> Option<&'a Signalled> {
        let sender = blow.sender.as_ref().filter(|_| blow.by_parent || blow.by_kernel)?;
        self.sender_signals.iter().rev().find(|order| {
            is_order(order)
                && order.sent_by_another(sender).is_some()
                && (self.started_ns..=blow.ktime_ns).contains(&order.ktime_ns)
        })
    }

    /// The order to stop or reload that reached its parent, not long before it ended by itself: a parent may hand it on
    /// in other ways than by a signal.
    fn parent_told(&self) -> Option<&'a Signalled> {
        let recent = self.closed_ns.saturating_sub(GRACE_NS).max(self.started_ns)..=self.closed_ns;
        let by_another = |order: &&Signalled| order.sender.is_some() && !order.by_kernel;
        self.parent_signals
            .iter()
            .rev()
            .filter(by_another)
            .find(|order| is_order(order) && recent.contains(&order.ktime_ns))
    }

    /// The order to stop or reload that reached the process itself, not long before `ktime_ns`.
    fn told_before(&self, ktime_ns: u64) -> Option<&'a Signalled> {
        let recent = ktime_ns.saturating_sub(GRACE_NS)..=ktime_ns;
        self.signals.iter().rev().find(|order| {
            is_order(order)
                && order.sent_by_another(self.process).is_some()
                && recent.contains(&order.ktime_ns)
        })
    }
}

impl<'a> Ending<'a> {
    /// The process of the rule's verdict.
    #[must_use]
    pub fn culprit(&self, process: &Process) -> Culprit {
        Culprit {
            process: process.clone(),
            exit: self.exit,
            killed_by: self
                .blow
                .filter(|blow| !blow.by_kernel || blow.signal == KILL)
                .and_then(|b| b.sender.clone()),
        }
    }
}

fn is_order(signalled: &Signalled) -> bool {
    ORDERS.contains(&signalled.signal)
}

/// The signal of another process that ended `process`, or that its parent had sent right before it let go. A handler
/// may raise the signal again once it has cleaned up: what counts is who sent it first.
fn blow<'a>(
    process: &Process,
    died: Option<Exit>,
    signals: &'a [Signalled],
    closed_ns: u64,
) -> Option<&'a Signalled> {
    let raised = |s: &&Signalled| !s.by_kernel && s.sender.as_ref().is_some_and(|sender| sender.is(process));
    let found = match died.and_then(|exit| exit.signal) {
        Some(number) => signals
            .iter()
            .rev()
            .filter(|s| s.signal == u32::from(number))
            .find(|s| !raised(s))
            .filter(|s| s.ktime_ns + GRACE_NS > closed_ns),
        None => signals.iter().rev().find(|s| {
            s.by_parent && (closed_ns.saturating_sub(HANDLED_NS)..=closed_ns).contains(&s.ktime_ns)
        }),
    };
    found.filter(|signalled| signalled.sent_by_another(process).is_some())
}

/// The other process that sent the last signal of the kind that ended `victim`; None: the kernel, or itself.
pub fn killer<'a>(exit: Option<Exit>, signals: &'a [Signalled], victim: &Process) -> Option<&'a Process> {
    let signal = u32::from(exit?.signal?);
    let last = signals.iter().rev().find(|s| s.signal == signal)?;
    if last.by_kernel {
        return None;
    }
    last.sender.as_ref().filter(|sender| !sender.is(victim))
}
