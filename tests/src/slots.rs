//! The places in which the kernel programs keep their marks (map `SLOTS`, `tracer-ebpf/src/marks.rs`), as a test fills
//! them: no real host can be brought to have each of them taken in a few seconds.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result};

use crate::bpf;

/// Numbers of uapi/linux/bpf.h.
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_GET_FD_BY_ID: libc::c_int = 14;

/// The map, by what no other map of the agent has in common with it.
const VALUE_SIZE: u64 = 128;

/// Whose a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taker {
    pub cookie: u64,
    pub skaddr: u64,
}

/// The slots of a running agent.
#[derive(Debug)]
pub struct Slots {
    map: File,
    pub count: u32,
}

type Value = [u64; VALUE_SIZE as usize / 8];

/// The first members of `union bpf_attr` for single elements.
#[repr(C)]
struct Element {
    map_fd: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Slots {
    /// # Errors
    /// When the agent has no such map.
    pub fn of(pid: u32) -> Result<Self> {
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            if bpf::figure(&text, "value_size") == Some(VALUE_SIZE) {
                let id: u32 = bpf::figure(&text, "map_id").context("map_id")?;
                let count = bpf::figure(&text, "max_entries").context("max_entries")?;
                return Ok(Self { map: bpf::new_fd(MAP_GET_FD_BY_ID, &mut [id, 0, 0])?, count });
            }
        }
        anyhow::bail!("{pid} has no map whose values have {VALUE_SIZE} bytes")
    }

    /// Who has a slot; None: nobody.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn taker(&self, index: u32) -> Result<Option<Taker>> {
        let value = self.read(index)?;
        Ok((value[1] != 0).then_some(Taker { cookie: value[0], skaddr: value[1] }))
    }

    /// Gives each slot that nobody has to `taker`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fill(&self, taker: Taker) -> Result<()> {
        for index in 0..self.count {
            let mut value = self.read(index)?;
            if value[1] == 0 {
                [value[0], value[1]] = [taker.cookie, taker.skaddr];
                bpf::done(MAP_UPDATE_ELEM, &mut self.element(&index, &raw mut value))?;
            }
        }
        Ok(())
    }

    fn read(&self, index: u32) -> Result<Value> {
        let mut value = Value::default();
        bpf::done(MAP_LOOKUP_ELEM, &mut self.element(&index, &raw mut value))
            .with_context(|| format!("slot {index} of {}", self.count))?;
        Ok(value)
    }

    fn element(&self, key: &u32, value: *mut Value) -> Element {
        Element {
            map_fd: self.map.as_raw_fd().cast_unsigned(),
            _padding: 0,
            key: std::ptr::from_ref(key) as u64,
            value: value as u64,
            flags: 0,
        }
    }
}
