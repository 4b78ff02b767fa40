//! Programs that run over kernel objects of a kind: loaded once, run whenever somebody wants to look.

use std::fs::File;
use std::io;

use aya::maps::MapError;
use aya::programs::links::LinkError;
use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf};
use thiserror::Error;

use crate::event::DecodeError;

/// Such a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iterator {
    pub program: &'static str,
    /// The kernel's name of what it runs over.
    pub target: &'static str,
}

/// Why kernel objects cannot be looked at.
#[derive(Debug, Error)]
#[error("{of}: {reason}")]
pub struct LookError {
    /// The iterator's target, or the map.
    of: &'static str,
    #[source]
    reason: LookFault,
}

/// What went wrong with an iterator or a map of its.
#[derive(Debug, Error)]
pub enum LookFault {
    #[error("not in the BPF object: the agent and the object are of different builds")]
    OtherBuild,
    #[error("the iterator cannot be loaded or attached: {0}")]
    Program(String),
    #[error("the iterator cannot be opened: {0}")]
    Link(#[from] LinkError),
    #[error("the iterator cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("the map cannot be used: {0}")]
    Map(#[from] MapError),
    #[error("a record of the iterator: {0}")]
    Decode(#[from] DecodeError),
}

impl From<ProgramError> for LookFault {
    fn from(error: ProgramError) -> Self {
        Self::Program(super::attach::brief(&error))
    }
}

impl LookError {
    /// Says what it is about.
    pub(super) fn of<E: Into<LookFault>>(of: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { of, reason: error.into() }
    }

    pub(super) fn other_build(of: &'static str) -> Self {
        Self { of, reason: LookFault::OtherBuild }
    }
}

impl Iterator {
    pub fn load(self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(), LookError> {
        self.program(ebpf)?.load(self.target, btf).map_err(LookError::of(self.target))
    }

    /// What it writes about all objects, to be read.
    pub fn run(self, ebpf: &mut Ebpf) -> Result<File, LookError> {
        let iter = self.program(ebpf)?;
        let id = iter.attach().map_err(LookError::of(self.target))?;
        let link = iter.take_link(id).map_err(LookError::of(self.target))?;
        link.into_file().map_err(LookError::of(self.target))
    }

    fn program(self, ebpf: &mut Ebpf) -> Result<&mut Iter, LookError> {
        let program = ebpf.program_mut(self.program).ok_or_else(|| LookError::other_build(self.program))?;
        program.try_into().map_err(LookError::of::<ProgramError>(self.program))
    }
}
