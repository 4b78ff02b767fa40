//! Bytes of the ring buffer to events. Total: whatever the bytes are, the result is an event or an error.

use std::net::SocketAddr;

use thiserror::Error;
use tracer_ebpf::tcp_state as s;
use tracer_ebpf::wire::{self, flag, kind, note, role};
use zerocopy::FromBytes;

use super::{
    Event, Existing, Exit, ListenerChange, OomVictim, Process, ProcessExit, ResetSent, Role, SignalSent,
    SocketEnd, TcpState, Tuple, connect_error, dns, unix, unmapped,
};

/// `PF_EXITING` and `PF_KTHREAD` of include/linux/sched.h.
const PF_EXITING: u32 = 0x4;
const PF_KTHREAD: u32 = 0x0020_0000;

/// Why a record is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("record of {len} bytes, shorter than the {header} of its header")]
    NoHeader { len: usize, header: usize },
    #[error("record of wire version {found}, this agent reads {}", wire::VERSION)]
    Version { found: u16 },
    #[error("record of unknown kind {found}")]
    Kind { found: u16 },
    #[error("record of kind {kind} has {len} bytes and says {said}, expected {expected}")]
    Size { kind: u16, len: usize, said: u32, expected: usize },
    #[error("socket end with unknown role {found}")]
    Role { found: u8 },
    #[error("DNS query without a well-formed name")]
    Name,
    #[error("end of a Unix socket in unknown way {found}")]
    How { found: u32 },
}

/// Decodes one record.
///
/// # Errors
/// If it is truncated, too long, of another version, or of an unknown kind or role.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let (header, _) = wire::Header::read_from_prefix(bytes)
        .map_err(|_| DecodeError::NoHeader { len: bytes.len(), header: size_of::<wire::Header>() })?;
    if header.version != wire::VERSION {
        return Err(DecodeError::Version { found: header.version });
    }
    match header.kind {
        kind::SOCKET_END => socket_end(&record(bytes, header)?).map(Event::SocketEnd),
        kind::RESET_SENT => Ok(Event::ResetSent(reset_sent(&record(bytes, header)?))),
        kind::LISTENER => Ok(Event::Listener(listener(&record(bytes, header)?))),
        kind::PROCESS_EXIT => Ok(Event::ProcessExit(process_exit(&record(bytes, header)?))),
        kind::SIGNAL => Ok(Event::Signal(signal(&record(bytes, header)?))),
        kind::OOM_VICTIM => Ok(Event::OomVictim(oom_victim(&record(bytes, header)?))),
        kind::SNAPSHOT => Ok(Event::Existing(existing(&record(bytes, header)?))),
        kind::DNS_QUERY => dns::query(&record(bytes, header)?).map(Event::DnsQuery),
        kind::DNS_ANSWER => Ok(Event::DnsAnswer(dns::answer(&record(bytes, header)?))),
        kind::CONNECT_ERROR => Ok(Event::ConnectError(connect_error::decode(&record(bytes, header)?))),
        kind::UNIX_END => {
            let r: wire::UnixEnd = record(bytes, header)?;
            unix::end(&r).map(Event::UnixEnd).ok_or(DecodeError::How { found: r.how })
        }
        kind::UNIX_SERVER => Ok(Event::UnixServer(unix::server(&record(bytes, header)?))),
        found => Err(DecodeError::Kind { found }),
    }
}

fn record<T: FromBytes>(bytes: &[u8], header: wire::Header) -> Result<T, DecodeError> {
    let expected = size_of::<T>();
    let wrong = || DecodeError::Size { kind: header.kind, len: bytes.len(), said: header.size, expected };
    if usize::try_from(header.size) != Ok(expected) {
        return Err(wrong());
    }
    T::read_from_bytes(bytes).map_err(|_| wrong())
}

fn socket_end(r: &wire::SocketEnd) -> Result<SocketEnd, DecodeError> {
    let role = match r.role {
        role::CLIENT => Role::Client,
        role::SERVER => Role::Server,
        found => return Err(DecodeError::Role { found }),
    };
    let has = |bit| r.flags & bit != 0;
    let noted = |bit| r.notes & bit != 0;
    let fin = u32::from(r.new_state == s::CLOSE_WAIT || r.old_state == s::CLOSE_WAIT);
    let unacked = r.write_seq.wrapping_sub(r.snd_una);
    Ok(SocketEnd {
        ktime_ns: r.header.ktime_ns,
        skaddr: r.skaddr,
        cookie: r.cookie,
        opened_ns: (r.opened_ns != 0).then_some(r.opened_ns),
        role,
        tuple: tuple(&r.tuple),
        old_state: r.old_state.into(),
        new_state: r.new_state.into(),
        owner: process(&r.owner),
        actor: if has(flag::OWNED) { process(&r.actor) } else { None },
        sk_err: r.sk_err,
        shutdown: r.sk_shutdown,
        rst_received: has(flag::RST_RECEIVED),
        fin_seen: has(flag::FIN_SEEN),
        linger0: has(flag::LINGER0),
        no_socket: has(flag::NO_SOCKET),
        pending: has(flag::PENDING),
        owner_accepts: has(flag::OWNER_ACCEPTS),
        preexisting: has(flag::PREEXISTING),
        marked: has(flag::MARKED),
        unanswered: has(flag::UNANSWERED),
        answering: has(flag::ANSWERING),
        netns_cookie: r.netns_cookie,
        refused_in_netns: noted(note::REFUSED).then_some(r.refused_in_netns),
        refused_in_cookie: r.refused_in_cookie,
        filtered_in_netns: noted(note::FILTERED).then_some(r.filtered_in_netns),
        answer_filtered_in_netns: noted(note::ANSWER_FILTERED).then_some(r.filtered_in_netns),
        stranger: noted(note::STRANGER),
        queue_reset: noted(note::OVERFLOW_RESET),
        queue_dropped: noted(note::OVERFLOW_DROP),
        unresolved: noted(note::UNRESOLVED),
        peer_ended_badly: noted(note::PEER_ENDED),
        bytes_received: r.bytes_received.saturating_sub(fin.into()),
        bytes_sent: bytes_sent(r, role, unacked),
        unread: r.rcv_nxt.wrapping_sub(r.copied_seq).saturating_sub(fin),
        unacked,
        write_seq: r.write_seq,
        rcv_nxt: r.rcv_nxt,
        snd_nxt: Some(r.snd_nxt),
        lsnd_age: r.lsnd_age,
        ack_age: r.ack_age,
        lrcv_age: r.lrcv_age,
        retransmits: r.total_retrans,
        timeouts: r.timeouts,
        retransmits_since_read: r.total_retrans.wrapping_sub(r.retrans_mark),
        srtt_us: r.srtt_us,
        exchanges: r.exchanges,
        slowest_answer: r.slowest_answer,
        idle_ages: r.idle_ages,
        upstream_reused: has(flag::UPSTREAM_REUSED),
        shape: (r.shape != 0).then_some(r.shape),
        written_since_read: has(flag::MARKED).then(|| r.write_seq.wrapping_sub(r.read_mark)),
    })
}

/// Payload written: from sequence numbers where the first is known, else acknowledged plus in flight.
fn bytes_sent(r: &wire::SocketEnd, role: Role, unacked: u32) -> u64 {
    if r.old_state == s::SYN_SENT {
        return 0;
    }
    // `bytes_acked` wraps no earlier than after 2^64 bytes; the sequence numbers do after 2^32.
    let syn = u64::from(role == Role::Client);
    r.bytes_acked.saturating_sub(syn).saturating_add(u64::from(unacked))
}

fn reset_sent(r: &wire::ResetSent) -> ResetSent {
    ResetSent {
        ktime_ns: r.header.ktime_ns,
        skaddr: r.skaddr,
        tuple: tuple(&r.tuple),
        actor: process(&r.actor),
        reason: (r.reason != u32::MAX).then_some(r.reason),
        state: state(r.sk_state),
        passive: r.passive != 0,
    }
}

fn listener(r: &wire::Listener) -> ListenerChange {
    let tuple = tuple(&r.tuple);
    ListenerChange {
        ktime_ns: r.header.ktime_ns,
        skaddr: r.skaddr,
        address: tuple.local,
        netns: tuple.netns,
        netns_cookie: r.netns_cookie,
        listening: r.listening != 0,
        actor: process(&r.actor),
        backlog: r.backlog,
        backlog_limit: r.backlog_limit,
    }
}

fn process_exit(r: &wire::ProcessExit) -> ProcessExit {
    let mut gone = known_process(&r.task);
    gone.exit = Some(Exit::from_wait_status(r.task.exit_code, r.task.oom != 0));
    ProcessExit { ktime_ns: r.header.ktime_ns, process: gone }
}

fn signal(r: &wire::Signal) -> SignalSent {
    SignalSent {
        ktime_ns: r.header.ktime_ns,
        target: known_process(&r.target),
        sender: process(&r.sender),
        signal: r.signal,
        by_kernel: r.info == 1,
    }
}

fn oom_victim(r: &wire::OomVictim) -> OomVictim {
    OomVictim { ktime_ns: r.header.ktime_ns, process: known_process(&r.task) }
}

fn existing(r: &wire::Snapshot) -> Existing {
    Existing {
        ktime_ns: r.header.ktime_ns,
        skaddr: r.skaddr,
        tuple: tuple(&r.tuple),
        netns_cookie: r.netns_cookie,
        state: state(r.sk_state),
        role: match u8::try_from(r.role) {
            Ok(role::CLIENT) => Some(Role::Client),
            Ok(role::SERVER) => Some(Role::Server),
            _ => None,
        },
        process: known_process(&r.task),
        backlog: r.backlog,
        backlog_limit: r.backlog_limit,
    }
}

fn state(number: u32) -> TcpState {
    u8::try_from(number).map_or(TcpState::Other(u8::MAX), TcpState::from)
}

pub(super) fn tuple(t: &wire::Tuple) -> Tuple {
    Tuple {
        local: SocketAddr::new(unmapped(t.local), t.local_port),
        peer: SocketAddr::new(unmapped(t.peer), t.peer_port),
        netns: t.netns,
    }
}

/// None for the all-zero task: not known. (tgid 0 is the idle task, which owns nothing.)
pub(super) fn process(t: &wire::Task) -> Option<Process> {
    (t.tgid != 0).then(|| known_process(t))
}

pub(super) fn known_process(t: &wire::Task) -> Process {
    let comm = t.comm.split(|b| *b == 0).next().unwrap_or_default();
    Process {
        tgid: t.tgid,
        parent_tgid: t.parent_tgid,
        start_boottime: t.start_boottime,
        parent_start_boottime: t.parent_start_boottime,
        comm: String::from_utf8_lossy(comm).into_owned(),
        cgroup_id: t.cgroup_id,
        netns: t.netns,
        exit: (t.flags & PF_EXITING != 0).then(|| Exit::from_wait_status(t.exit_code, t.oom != 0)),
        kernel_thread: t.flags & PF_KTHREAD != 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn header<T>(kind: u16) -> wire::Header {
        wire::Header { version: wire::VERSION, kind, size: size_of::<T>() as u32, ktime_ns: 7 }
    }

    fn end() -> wire::SocketEnd {
        wire::SocketEnd {
            header: header::<wire::SocketEnd>(kind::SOCKET_END),
            role: role::CLIENT,
            old_state: s::ESTABLISHED,
            new_state: s::CLOSE_WAIT,
            bytes_received: 101,
            bytes_acked: 51,
            write_seq: 60,
            snd_una: 60,
            rcv_nxt: 12,
            copied_seq: 11,
            ..wire::SocketEnd::default()
        }
    }

    #[test]
    fn counts_payload_without_syn_and_fin() {
        let Ok(Event::SocketEnd(event)) = decode(end().as_bytes()) else { panic!("not decoded") };
        assert_eq!((event.bytes_received, event.bytes_sent, event.unread), (100, 50, 0));
    }

    #[test]
    fn refuses_other_versions_kinds_roles_and_sizes() {
        let mut record = end();
        record.header.version = wire::VERSION + 1;
        assert_eq!(decode(record.as_bytes()), Err(DecodeError::Version { found: wire::VERSION + 1 }));
        record = end();
        record.header.kind = 999;
        assert_eq!(decode(record.as_bytes()), Err(DecodeError::Kind { found: 999 }));
        record = end();
        record.role = 9;
        assert_eq!(decode(record.as_bytes()), Err(DecodeError::Role { found: 9 }));
        let bytes = end();
        assert!(matches!(decode(&bytes.as_bytes()[..100]), Err(DecodeError::Size { len: 100, .. })));
        assert!(matches!(decode(&[1, 2]), Err(DecodeError::NoHeader { len: 2, .. })));
    }

    #[test]
    fn spells_mapped_addresses_as_ipv4() {
        let mut record = end();
        record.tuple.peer = std::net::Ipv4Addr::new(10, 0, 3, 7).to_ipv6_mapped().octets();
        record.tuple.peer_port = 9000;
        let Ok(Event::SocketEnd(event)) = decode(record.as_bytes()) else { panic!("not decoded") };
        assert_eq!(event.tuple.peer.to_string(), "10.0.3.7:9000");
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn decodes_every_content_of_a_whole_record(
            kind in 1_u16..13,
            body in proptest::collection::vec(any::<u8>(), 500),
        ) {
            let size = match kind {
                kind::SOCKET_END => size_of::<wire::SocketEnd>(),
                kind::CONNECT_ERROR => size_of::<wire::ConnectError>(),
                kind::UNIX_END => size_of::<wire::UnixEnd>(),
                kind::UNIX_SERVER => size_of::<wire::UnixServer>(),
                kind::PROCESS_EXIT | kind::OOM_VICTIM => size_of::<wire::ProcessExit>(),
                kind::LISTENER => size_of::<wire::Listener>(),
                kind::SIGNAL => size_of::<wire::Signal>(),
                kind::SNAPSHOT => size_of::<wire::Snapshot>(),
                kind::DNS_QUERY => size_of::<wire::dns::DnsQuery>(),
                kind::DNS_ANSWER => size_of::<wire::dns::DnsAnswer>(),
                _ => size_of::<wire::ResetSent>(),
            };
            let head = wire::Header { version: wire::VERSION, kind, size: size as u32, ktime_ns: 1 };
            let mut bytes = head.as_bytes().to_vec();
            bytes.extend(&body[..size - bytes.len()]);
            let decoded = decode(&bytes);
            let refused = matches!(
                decoded,
                Err(DecodeError::Role { .. } | DecodeError::Name | DecodeError::How { .. })
            );
            prop_assert!(decoded.is_ok() || refused);
            bytes.pop();
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
