//! The rules over made-up stories: each rule, its look-alikes, and what must stay silent. Here the makings; the
//! stories of real servers are in the integration tests.

mod any;
mod connect_errors;
mod connects;
mod dns;
mod here;
mod learned;
mod path;
mod process;
mod reuse;
mod unix;
mod upstream;

use std::net::SocketAddr;

use super::*;
use crate::event::{Event, ListenerChange, ProcessExit, ResetSent, SignalSent, SocketEnd, TcpState, Tuple};
use crate::table::{SETTLE_NS, Settings, Tables};

const SECOND: u64 = 1_000_000_000;

fn process(tgid: u32, comm: &str) -> Process {
    Process {
        tgid,
        parent_tgid: 1,
        parent_start_boottime: 0,
        start_boottime: u64::from(tgid) * 1000,
        comm: comm.into(),
        cgroup_id: 0,
        netns: 1,
        exit: None,
        kernel_thread: false,
    }
}

/// A process that `parent` has started.
fn child_of(parent: &Process, tgid: u32, comm: &str) -> Process {
    let (parent_tgid, parent_start_boottime) = parent.id();
    Process { parent_tgid, parent_start_boottime, ..process(tgid, comm) }
}

fn dying(tgid: u32, comm: &str, exit: Exit) -> Process {
    Process { exit: Some(exit), ..process(tgid, comm) }
}

fn signalled(number: u8) -> Exit {
    Exit { code: None, signal: Some(number), oom: false }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A gateway's leg whose peer closed it with a request pending.
fn leg() -> SocketEnd {
    SocketEnd {
        ktime_ns: 100 * SECOND,
        skaddr: 0xa,
        cookie: 1,
        opened_ns: Some(99 * SECOND),
        role: Role::Client,
        tuple: Tuple { local: address("10.0.0.1:40000"), peer: address("10.0.0.2:80"), netns: 1 },
        old_state: TcpState::Established,
        new_state: TcpState::CloseWait,
        owner: Some(process(812, "nginx")),
        actor: None,
        sk_err: 0,
        shutdown: 1,
        rst_received: false,
        fin_seen: false,
        linger0: false,
        no_socket: false,
        pending: true,
        owner_accepts: true,
        preexisting: false,
        marked: true,
        unanswered: false,
        answering: false,
        netns_cookie: 0,
        refused_in_netns: None,
        refused_in_cookie: 0,
        filtered_in_netns: None,
        answer_filtered_in_netns: None,
        stranger: false,
        queue_reset: false,
        queue_dropped: false,
        unresolved: false,
        peer_ended_badly: false,
        bytes_received: 0,
        bytes_sent: 97,
        unread: 0,
        unacked: 0,
        write_seq: 1097,
        rcv_nxt: 5001,
        snd_nxt: Some(1097),
        lsnd_age: 300,
        ack_age: 300,
        lrcv_age: 300,
        retransmits: 0,
        timeouts: 0,
        retransmits_since_read: 0,
        srtt_us: 180,
        exchanges: 0,
        slowest_answer: 0,
        idle_ages: [0; 8],
        upstream_reused: false,
        shape: None,
        written_since_read: Some(97),
    }
}

/// The accepted end of [`leg`], closed by `actor` a moment earlier.
fn accepted(actor: Process) -> SocketEnd {
    SocketEnd {
        ktime_ns: 100 * SECOND - 1000,
        skaddr: 0xb,
        cookie: 2,
        opened_ns: None,
        role: Role::Server,
        tuple: Tuple { local: address("10.0.0.2:80"), peer: address("10.0.0.1:40000"), netns: 2 },
        new_state: TcpState::FinWait1,
        owner: None,
        actor: Some(actor),
        shutdown: 3,
        pending: false,
        owner_accepts: false,
        marked: false,
        unanswered: true,
        bytes_received: 97,
        bytes_sent: 0,
        write_seq: 5000,
        rcv_nxt: 1097,
        ..leg()
    }
}

/// A RST that came for [`leg`].
fn reset_leg() -> SocketEnd {
    SocketEnd { new_state: TcpState::Close, sk_err: 104, rst_received: true, shutdown: 0, ..leg() }
}

/// The owner closed [`leg`].
fn closed_leg() -> SocketEnd {
    SocketEnd { new_state: TcpState::FinWait1, actor: Some(process(812, "nginx")), shutdown: 3, ..leg() }
}

fn tables(vantage: bool) -> Tables {
    Tables::new(Settings { hz: 250, vantage, suspended_ns: 0 })
}

/// Plays events and returns the verdicts, all that had to wait included.
fn play(vantage: bool, events: Vec<Event>) -> Vec<Verdict> {
    let mut tables = tables(vantage);
    let mut verdicts = Vec::new();
    let mut last = 0;
    for event in events {
        last = last.max(event.ktime_ns());
        if let Some(ended) = tables.apply(event) {
            verdicts.extend(of(&tables, &ended));
        }
    }
    while let Some(ended) = tables.settled(last + SETTLE_NS) {
        verdicts.extend(of(&tables, &ended));
    }
    verdicts
}

/// The one verdict on these ends.
fn one(ends: &[SocketEnd]) -> Verdict {
    let mut verdicts = play(false, ends.iter().cloned().map(Event::SocketEnd).collect());
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

fn check(verdict: &Verdict, by: By, cause: Cause, impact: Impact, confidence: Confidence) {
    let got = (verdict.by, verdict.cause, verdict.impact, verdict.confidence);
    assert_eq!(got, (by, cause, impact, confidence), "{verdict:#?}");
}

fn signal(target: &Process, sender: &Process, number: u32) -> Event {
    Event::Signal(SignalSent {
        ktime_ns: 99 * SECOND,
        target: target.clone(),
        sender: Some(sender.clone()),
        signal: number,
        by_kernel: false,
    })
}

/// The client's leg at the gateway of [`closed_leg`], left 1 ms before it was closed.
fn client_leg() -> SocketEnd {
    SocketEnd {
        ktime_ns: 100 * SECOND - 1_000_000,
        skaddr: 0xc,
        role: Role::Server,
        tuple: Tuple { local: address("10.0.0.1:8080"), peer: address("192.0.2.9:5000"), netns: 1 },
        new_state: TcpState::CloseWait,
        owner: None,
        actor: None,
        unanswered: true,
        write_seq: 1,
        rcv_nxt: 2,
        ..leg()
    }
}

/// A connect that failed with `sk_err`.
fn failed_connect(sk_err: u32) -> SocketEnd {
    SocketEnd {
        old_state: TcpState::SynSent,
        new_state: TcpState::Close,
        sk_err,
        pending: false,
        bytes_sent: 0,
        ..leg()
    }
}

fn listener(listening: bool, ktime_ns: u64, actor: Process) -> Event {
    Event::Listener(ListenerChange {
        ktime_ns,
        skaddr: 0xd,
        address: address("0.0.0.0:80"),
        netns: 2,
        netns_cookie: 0,
        listening,
        actor: Some(actor),
        backlog: 0,
        backlog_limit: 128,
    })
}
