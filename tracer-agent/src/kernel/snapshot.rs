//! What existed before the start, by `iter/task_file`: all sockets of all processes, in all namespaces.

use std::io::{self, Read as _};

use aya::maps::{HashMap, MapError};
use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf};
use thiserror::Error;
use tracer_ebpf::wire;

use crate::event::{DecodeError, Event, Existing, decode as decode_record};

const PROGRAM: &str = "snapshot";

/// Why the snapshot cannot be read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("the BPF object has no program {PROGRAM}: the agent and the object are of different builds")]
    NoProgram,
    #[error("iter/task_file: {0}")]
    Program(#[from] ProgramError),
    #[error("iter/task_file: {0}")]
    Link(#[from] aya::programs::links::LinkError),
    #[error("reading iter/task_file: {0}")]
    Read(#[from] io::Error),
    #[error("cannot write the map ASKED: {0}")]
    Asked(#[from] MapError),
    #[error("record of iter/task_file: {0}")]
    Decode(#[from] DecodeError),
}

/// Loads the iterator.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), SnapshotError> {
    iterator(ebpf)?.load("task_file", btf)?;
    Ok(())
}

/// Runs it once over all files of all processes and returns the bytes that it wrote.
pub(super) fn pass(ebpf: &mut Ebpf) -> Result<Vec<u8>, SnapshotError> {
    let iter = iterator(ebpf)?;
    let id = iter.attach()?;
    let mut bytes = Vec::new();
    iter.take_link(id)?.into_file()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says which sockets the next pass is for, by their local and peer ports.
pub(super) fn ask(ebpf: &mut Ebpf, ports: &[(u16, u16)], wanted: bool) -> Result<(), SnapshotError> {
    let map = ebpf.map_mut("ASKED").ok_or(SnapshotError::NoProgram)?;
    let mut asked: HashMap<_, u32, u32> = HashMap::try_from(map)?;
    for &(local, peer) in ports {
        let key = u32::from(local) << 16 | u32::from(peer);
        if wanted {
            asked.insert(key, 1, 0)?;
        } else {
            asked.remove(&key)?;
        }
    }
    Ok(())
}

/// Decodes the records of the second pass.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Existing>, SnapshotError> {
    bytes
        .chunks(size_of::<wire::Snapshot>())
        .filter_map(|record| match decode_record(record) {
            Ok(Event::Existing(existing)) => Some(Ok(existing)),
            Ok(_) => None,
            Err(error) => Some(Err(error.into())),
        })
        .collect()
}

fn iterator(ebpf: &mut Ebpf) -> Result<&mut Iter, SnapshotError> {
    let program = ebpf.program_mut(PROGRAM).ok_or(SnapshotError::NoProgram)?;
    Ok(program.try_into()?)
}
