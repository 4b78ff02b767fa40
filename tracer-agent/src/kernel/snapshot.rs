//! What existed before the start, by `iter/task_file`: all sockets of all processes, in all namespaces.

use std::io::{ErrorKind, Read as _};

use aya::Ebpf;
use aya::maps::HashMap;
use tracer_ebpf::{tcp_state, wire};
use zerocopy::FromBytes as _;

use super::iterator::{Iterator, LookError};
use crate::event::{Event, Existing, decode as decode_record};

pub(super) const ITERATOR: Iterator = Iterator { program: "snapshot", target: "task_file" };
/// The sockets that are asked for.
const ASKED: &str = "ASKED";
const RECORD: usize = size_of::<wire::Snapshot>();
/// Of what the kernel writes at once (`bpf_seq_read` of kernel/bpf/bpf_iter.c), and a part of a record before it.
const BUFFER: usize = 64 * 1024;

/// Which sockets are worth more than being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    /// There may be very many others, and their marks in the kernel say all that is to be known of them.
    Listeners,
}

/// What a pass has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that were wanted.
    pub wanted: Vec<Existing>,
    /// How many were reported. A socket that several processes hold counts for each.
    pub sockets: usize,
}

/// Runs it once over all files of all processes; returns those of the sockets that it reported that are `wanted`.
pub(super) fn pass(ebpf: &mut Ebpf, wanted: Wanted) -> Result<Found, LookError> {
    let mut records = ITERATOR.run(ebpf)?;
    let mut found = Found::default();
    let mut bytes = vec![0; BUFFER];
    let mut kept = 0;
    loop {
        match records.read(&mut bytes[kept..]) {
            Ok(0) => break,
            Ok(read) => kept = found.take(&mut bytes, kept + read, wanted)?,
            // After a million files without a record (MAX_ITER_OBJECTS of kernel/bpf/bpf_iter.c) it wants to be asked again.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(LookError::of(ITERATOR.target)(error)),
        }
    }
    if kept > 0 {
        decode(&bytes[..kept])?;
    }
    Ok(found)
}

/// Says which sockets the next pass is for, by their local and peer ports.
pub(super) fn ask(ebpf: &mut Ebpf, ports: &[(u16, u16)], wanted: bool) -> Result<(), LookError> {
    let map = ebpf.map_mut(ASKED).ok_or_else(|| LookError::other_build(ASKED))?;
    let mut asked: HashMap<_, u32, u32> = HashMap::try_from(map).map_err(LookError::of(ASKED))?;
    for &(local, peer) in ports {
        let key = u32::from(local) << 16 | u32::from(peer);
        let done = if wanted { asked.insert(key, 1, 0) } else { asked.remove(&key) };
        done.map_err(LookError::of(ASKED))?;
    }
    Ok(())
}

impl Found {
    /// Takes the records at the beginning of `bytes`, of which `len` were read; moves the rest, a part of a record, there
    /// and returns its length.
    fn take(&mut self, bytes: &mut [u8], len: usize, wanted: Wanted) -> Result<usize, LookError> {
        let whole = len - len % RECORD;
        for record in bytes[..whole].chunks_exact(RECORD) {
            self.sockets += 1;
            if wanted == Wanted::Listeners && !listens(record) {
                continue;
            }
            if let Event::Existing(existing) = decode(record)? {
                self.wanted.push(existing);
            }
        }
        bytes.copy_within(whole..len, 0);
        Ok(len - whole)
    }
}

fn decode(record: &[u8]) -> Result<Event, LookError> {
    decode_record(record).map_err(LookError::of(ITERATOR.target))
}

/// Whether it is a listener's record, which is cheaper to see than to decode it.
fn listens(record: &[u8]) -> bool {
    let state = wire::Snapshot::read_from_bytes(record).map(|record| record.sk_state);
    state.is_ok_and(|state| state == u32::from(tcp_state::LISTEN))
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::wire::{Header, Snapshot, VERSION, kind};
    use zerocopy::IntoBytes as _;

    use super::*;

    fn record(state: u8, port: u16) -> Vec<u8> {
        let header = Header { version: VERSION, kind: kind::SNAPSHOT, size: RECORD as u32, ktime_ns: 7 };
        let mut record = Snapshot { header, sk_state: u32::from(state), ..Snapshot::default() };
        record.tuple.local_port = port;
        record.as_bytes().to_vec()
    }

    /// What comes of records that are read in pieces of so many bytes: ports, and how many sockets there were.
    fn found(records: &[u8], piece: usize, wanted: Wanted) -> (Vec<u16>, usize) {
        let mut found = Found::default();
        let mut bytes = vec![0; RECORD + piece];
        let mut kept = 0;
        for piece in records.chunks(piece) {
            bytes[kept..kept + piece.len()].copy_from_slice(piece);
            kept = found.take(&mut bytes, kept + piece.len(), wanted).unwrap();
        }
        assert_eq!(kept, 0);
        (found.wanted.iter().map(|existing| existing.tuple.local.port()).collect(), found.sockets)
    }

    #[test]
    fn records_are_put_together_wherever_they_are_torn() {
        let states = [tcp_state::LISTEN, tcp_state::ESTABLISHED, tcp_state::ESTABLISHED, tcp_state::LISTEN];
        let records: Vec<u8> = (1..).zip(states).flat_map(|(port, state)| record(state, port)).collect();
        for piece in 1..=records.len() {
            assert_eq!(found(&records, piece, Wanted::Listeners), (vec![1, 4], 4), "{piece}");
            assert_eq!(found(&records, piece, Wanted::All), (vec![1, 2, 3, 4], 4), "{piece}");
        }
    }

    #[test]
    fn a_record_of_another_build_is_refused() {
        let mut bytes = record(tcp_state::ESTABLISHED, 1);
        bytes[0] ^= 1;
        assert!(Found::default().take(&mut bytes, RECORD, Wanted::All).is_err());
    }
}
