//! The network namespaces of this host: what the programs saw in each, and what the kernel counted itself.
//!
//! The kernel's counters are read from /proc/TID/net of a thread that is in the namespace, which needs no right beyond
//! what the agent keeps; entering a namespace that no thread is in would need CAP_SYS_ADMIN. Such a one is left out.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, MapError};
use aya::{Btf, Ebpf};
use tracer_ebpf::config::MISSING;
use tracer_ebpf::wire::{self, NAMESPACE_WORDS, seen};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::iterator::{Iterator, LookError};
use super::loader::Kernel;
use super::netns;
use crate::event::{Mib, Sight};

const ITERATOR: Iterator = Iterator { program: "namespaces", target: "task" };
const MAP: &str = "NAMESPACES";
/// The number of the present look.
const LOOK: &str = "LOOK";
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

type Words = [u64; NAMESPACE_WORDS];

/// Loads the iterator.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), LookError> {
    ITERATOR.load(ebpf, btf)
}

impl Kernel {
    /// Looks at every thread of the host; returns the namespaces that there are, and gives up those that nobody has been
    /// in for some looks.
    ///
    /// # Errors
    /// If the iterator cannot be run or a map cannot be used.
    pub fn namespaces(&mut self) -> Result<Vec<Namespace>, LookError> {
        let look = self.number_of_next_look()?;
        // It writes nothing: what it finds is in the map.
        let read = ITERATOR.run(&mut self.ebpf)?.read_to_end(&mut Vec::new());
        read.map_err(LookError::of(ITERATOR.target))?;
        let mut found = Vec::new();
        let mut gone = Vec::new();
        for entry in self.seen_by_namespace()?.iter() {
            let (cookie, words) = entry.map_err(LookError::of(MAP))?;
            let value = wire::Namespace::read_from_bytes(words.as_bytes()).unwrap_or_default();
            if look.wrapping_sub(value.look) >= KEPT_LOOKS {
                gone.push(cookie);
                continue;
            }
            let tid = (value.look == look && value.tid != 0).then_some(value.tid);
            found.push(Namespace { cookie, inum: value.inum, tid, seen: value.seen });
        }
        let map = self.ebpf.map_mut(MAP).ok_or_else(|| LookError::other_build(MAP))?;
        let mut map: HashMap<_, u64, Words> = HashMap::try_from(map).map_err(LookError::of(MAP))?;
        for cookie in gone {
            map.remove(&cookie).map_err(LookError::of(MAP))?;
        }
        Ok(found)
    }

    /// What the programs have seen in a namespace until now; None if it has no place.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn seen_in(&self, cookie: u64) -> Result<Option<[u64; seen::COUNT]>, LookError> {
        match self.seen_by_namespace()?.get(&cookie, 0) {
            Ok(words) => Ok(wire::Namespace::read_from_bytes(words.as_bytes()).ok().map(|value| value.seen)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(LookError::of(MAP)(error)),
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

    fn seen_by_namespace(&self) -> Result<HashMap<&MapData, u64, Words>, LookError> {
        let map = self.ebpf.map(MAP).ok_or_else(|| LookError::other_build(MAP))?;
        HashMap::try_from(map).map_err(LookError::of(MAP))
    }

    fn number_of_next_look(&mut self) -> Result<u32, LookError> {
        let map = self.ebpf.map_mut(LOOK).ok_or_else(|| LookError::other_build(LOOK))?;
        let mut map: Array<_, u32> = Array::try_from(map).map_err(LookError::of(LOOK))?;
        let look = map.get(&0, 0).map_err(LookError::of(LOOK))?.wrapping_add(1);
        map.set(0, look, 0).map_err(LookError::of(LOOK))?;
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
