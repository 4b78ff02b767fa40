//! Records of the ring buffer.

use tracer_agent::event::{Event, decode};
use tracer_ebpf::wire::{self, Header, VERSION, kind};

/// The input as one record, as it is; and its rest under each kind's own header, so that the fuzzer need not guess that.
pub fn run(input: &[u8]) {
    let _ = decode(input);
    for kind in 1..kind::COUNT as u16 {
        let _ = event(kind, 0, &mut &*input);
    }
}

/// A record of that kind and time whose body is taken from the input; what is missing is zero.
pub fn event(kind: u16, ktime_ns: u64, input: &mut &[u8]) -> Option<Event> {
    let size = size(kind)?;
    let mut record = Vec::with_capacity(size);
    record.extend(VERSION.to_ne_bytes());
    record.extend(kind.to_ne_bytes());
    record.extend((size as u32).to_ne_bytes());
    record.extend(ktime_ns.to_ne_bytes());
    let body = input.split_off(..input.len().min(size - record.len())).unwrap_or_default();
    record.extend(body);
    record.resize(size, 0);
    decode(&record).ok()
}

fn size(number: u16) -> Option<usize> {
    Some(match number {
        kind::SOCKET_END => size_of::<wire::SocketEnd>(),
        kind::RESET_SENT => size_of::<wire::ResetSent>(),
        kind::LISTENER => size_of::<wire::Listener>(),
        kind::PROCESS_EXIT => size_of::<wire::ProcessExit>(),
        kind::SIGNAL => size_of::<wire::Signal>(),
        kind::OOM_VICTIM => size_of::<wire::OomVictim>(),
        kind::SNAPSHOT => size_of::<wire::Snapshot>(),
        kind::DNS_QUERY => size_of::<wire::dns::DnsQuery>(),
        kind::DNS_ANSWER => size_of::<wire::dns::DnsAnswer>(),
        kind::CONNECT_ERROR => size_of::<wire::ConnectError>(),
        kind::UNIX_END => size_of::<wire::UnixEnd>(),
        kind::UNIX_SERVER => size_of::<wire::UnixServer>(),
        _ => return None,
    })
}

const _: () = assert!(size_of::<Header>() == 16);
