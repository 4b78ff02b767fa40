//! The network namespaces of this host: what the programs saw in each, and what the kernel counted itself.
//!
//! The kernel's counters are read from /proc/TID/net of a thread that is in the namespace, which needs no right beyond
//! what the agent keeps; entering a namespace that no thread is in would need CAP_SYS_ADMIN. Such a one is left out.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use aya::maps::{Array, HashMap, MapError};
use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf};
use thiserror::Error;
use tracer_ebpf::config::MISSING;
use tracer_ebpf::wire::{self, NAMESPACE_WORDS, seen};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::loader::Kernel;
use super::netns;
use crate::event::{Mib, Sight};

const PROGRAM: &str = "namespaces";
const MAP: &str = "NAMESPACES";
/// Looks after which a namespace without threads gives its place back.
const KEPT_LOOKS: u32 = 6;

/// A network namespace at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its number among all that there have been since the host started.
    pub cookie: u64,
    /// Its inode number, which the next one may get.
    pub inum: u32,
    /// A thread that was in it, if there was any.
    pub tid: Option<u32>,
    /// What the programs saw, in the order of [`crate::event::Counter`].
    pub seen: [u64; seen::COUNT],
}

/// Why they cannot be looked at.
#[derive(Debug, Error)]
pub enum NamespacesError {
    #[error(
        "the BPF object has no program {PROGRAM} or no map {MAP}: the agent and the object are of different builds"
    )]
    OtherBuild,
    #[error("iter/task: {0}")]
    Program(String),
    #[error("iter/task: {0}")]
    Link(#[from] aya::programs::links::LinkError),
    #[error("reading iter/task: {0}")]
    Read(#[from] io::Error),
    #[error("cannot use the map {MAP}: {0}")]
    Map(#[from] MapError),
}

impl From<ProgramError> for NamespacesError {
    fn from(error: ProgramError) -> Self {
        Self::Program(super::attach::brief(&error))
    }
}

type Words = [u64; NAMESPACE_WORDS];

/// Loads the iterator.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), NamespacesError> {
    iterator(ebpf)?.load("task", btf)?;
    Ok(())
}

impl Kernel {
    /// Looks at every thread of the host; returns the namespaces that there are, and gives up those that nobody has been
    /// in for some looks.
    ///
    /// # Errors
    /// If the iterator cannot be run or a map cannot be used.
    pub fn namespaces(&mut self) -> Result<Vec<Namespace>, NamespacesError> {
        let look = self.number_of_next_look()?;
        let iter = iterator(&mut self.ebpf)?;
        let id = iter.attach()?;
        // It writes nothing: what it finds is in the map.
        iter.take_link(id)?.into_file()?.read_to_end(&mut Vec::new())?;
        let mut found = Vec::new();
        let mut gone = Vec::new();
        let map: HashMap<_, u64, Words> =
            HashMap::try_from(self.ebpf.map(MAP).ok_or(NamespacesError::OtherBuild)?)?;
        for entry in map.iter() {
            let (cookie, words) = entry?;
            let value = wire::Namespace::read_from_bytes(words.as_bytes()).unwrap_or_default();
            if look.wrapping_sub(value.look) >= KEPT_LOOKS {
                gone.push(cookie);
                continue;
            }
            let tid = (value.look == look && value.tid != 0).then_some(value.tid);
            found.push(Namespace { cookie, inum: value.inum, tid, seen: value.seen });
        }
        let map = self.ebpf.map_mut(MAP).ok_or(NamespacesError::OtherBuild)?;
        let mut map: HashMap<_, u64, Words> = HashMap::try_from(map)?;
        for cookie in gone {
            map.remove(&cookie)?;
        }
        Ok(found)
    }

    /// What the programs have seen in a namespace until now; None if it has no place.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn seen_in(&self, cookie: u64) -> Result<Option<[u64; seen::COUNT]>, NamespacesError> {
        let map: HashMap<_, u64, Words> =
            HashMap::try_from(self.ebpf.map(MAP).ok_or(NamespacesError::OtherBuild)?)?;
        match map.get(&cookie, 0) {
            Ok(words) => Ok(wire::Namespace::read_from_bytes(words.as_bytes()).ok().map(|value| value.seen)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the hooks let the programs see here of what the kernel counts.
    #[must_use]
    pub fn sight(&self) -> Sight {
        let [linger, memory] = self.layout.abort_reasons();
        let both_families = self.is_attached("refused_syn") && self.is_attached("refused_syn_v6");
        Sight {
            sees_resets: self.is_attached("tcp_send_reset"),
            sees_refusals: self.layout.has_reset_reason() || both_families,
            knows_abort_reasons: self.layout.has_reset_reason() && linger != MISSING && memory != MISSING,
            skipped: self.skipped(&[
                "tcp_send_reset",
                "refused_syn_v4",
                "refused_syn_v6",
                "inet_sock_set_state",
            ]),
        }
    }

    fn number_of_next_look(&mut self) -> Result<u32, NamespacesError> {
        let map = self.ebpf.map_mut("LOOK").ok_or(NamespacesError::OtherBuild)?;
        let mut map: Array<_, u32> = Array::try_from(map)?;
        let look = map.get(&0, 0)?.wrapping_add(1);
        map.set(0, look, 0)?;
        Ok(look)
    }
}

/// What the kernel has counted in a namespace; None if the thread is in it no more.
#[must_use]
pub fn counted_by_kernel(namespace: &Namespace) -> Option<Mib> {
    let tid = namespace.tid?;
    let is_there = || netns::inode(Path::new(&format!("/proc/{tid}/ns/net"))).ok() == Some(namespace.inum);
    let read = |name: &str| fs::read_to_string(format!("/proc/{tid}/net/{name}")).ok();
    if !is_there() {
        return None;
    }
    let mib = Mib::parse(&read("snmp")?, &read("netstat")?)?;
    // The thread may have left, or its number may be another's by now.
    is_there().then_some(mib)
}

fn iterator(ebpf: &mut Ebpf) -> Result<&mut Iter, NamespacesError> {
    let program = ebpf.program_mut(PROGRAM).ok_or(NamespacesError::OtherBuild)?;
    Ok(program.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_the_own_namespace_are_read_and_of_no_other() {
        let own = Namespace { inum: netns::own(), tid: Some(std::process::id()), ..Namespace::default() };
        assert!(counted_by_kernel(&own).is_some());
        assert_eq!(counted_by_kernel(&Namespace { inum: own.inum + 1, ..own }), None);
        assert_eq!(counted_by_kernel(&Namespace { tid: Some(u32::MAX), ..own }), None);
        assert_eq!(counted_by_kernel(&Namespace { tid: None, ..own }), None);
    }
}
