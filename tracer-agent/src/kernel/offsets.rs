//! The layout of the running kernel: offsets of the members that the programs read, and the names of its
//! enumerators. Read once at the start, from BTF; the blob is dropped afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracer_ebpf::config::MISSING;
use tracer_ebpf::offsets::{Member, Offsets};

use super::btf::{Btf, BtfError};

/// What the running kernel looks like inside.
#[derive(Clone, Debug)]
pub struct Layout {
    pub offsets: Offsets,
    /// `enum sk_rst_reason` by number, without its prefix; empty before Linux 6.10.
    pub reset_reasons: BTreeMap<u32, String>,
    /// Numbers of the drop reasons that the programs ask for, in their order; `MISSING` where there is none.
    pub drop_reasons: [u32; 3],
    /// Arguments of each tracepoint, None where it does not exist.
    pub tracepoints: BTreeMap<&'static str, usize>,
    /// Functions that fentry could attach to.
    pub functions: Vec<&'static str>,
    /// Optional members that this kernel does not have.
    pub missing: Vec<&'static str>,
}

/// Why the layout cannot be read.
#[derive(Debug, Error)]
pub enum OffsetsError {
    #[error("cannot read the kernel's BTF at {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the kernel's BTF at {} cannot be understood: {source}", path.display())]
    Btf { path: PathBuf, source: BtfError },
    #[error("the kernel's BTF has no member {of}.{path}, which the programs read: {source}")]
    Member { of: &'static str, path: &'static str, source: BtfError },
}

/// Tracepoints whose arguments differ between kernels, or that may be absent.
const TRACEPOINTS: &[&str] = &[
    "inet_sock_set_state",
    "tcp_send_reset",
    "tcp_receive_reset",
    "tcp_rcv_space_adjust",
    "sched_process_exit",
    "signal_generate",
    "mark_victim",
    "kfree_skb",
    "sock_send_length",
    "sock_recv_length",
];
const FUNCTIONS: &[&str] = &["tcp_fin", "tcp_v4_send_reset", "tcp_v6_send_reset"];

impl Layout {
    /// Reads the layout from a BTF blob such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// If the file cannot be read or understood, or lacks a member that is not optional.
    pub fn read(path: &Path) -> Result<Self, OffsetsError> {
        let bytes =
            std::fs::read(path).map_err(|source| OffsetsError::Read { path: path.to_owned(), source })?;
        let btf = Btf::parse(&bytes).map_err(|source| OffsetsError::Btf { path: path.to_owned(), source })?;
        Self::from_btf(&btf)
    }

    /// # Errors
    /// If a member that is not optional is missing.
    pub fn from_btf(btf: &Btf<'_>) -> Result<Self, OffsetsError> {
        let mut missing = Vec::new();
        let offsets = Offsets::resolve(|member| look_up(btf, member, &mut missing))?;
        Ok(Self {
            offsets,
            reset_reasons: reset_reasons(btf),
            drop_reasons: drop_reasons(btf),
            tracepoints: TRACEPOINTS.iter().filter_map(|&t| Some((t, btf.tracepoint_args(t)?))).collect(),
            functions: FUNCTIONS.iter().copied().filter(|f| btf.has_function(f)).collect(),
            missing,
        })
    }

    /// `tcp_send_reset` says why (Linux 6.10).
    #[must_use]
    pub fn has_reset_reason(&self) -> bool {
        self.tracepoints.get("tcp_send_reset").is_some_and(|args| *args >= 3)
    }

    /// Numbers of the reset reasons that go with TCPAbortOnLinger and TCPAbortOnMemory, in this order; `MISSING` where
    /// the kernel does not tell them apart.
    #[must_use]
    pub fn abort_reasons(&self) -> [u32; 2] {
        ["TCP_ABORT_ON_LINGER", "TCP_ABORT_ON_MEMORY"].map(|wanted| {
            let found = self.reset_reasons.iter().find(|(_, name)| *name == wanted);
            found.map_or(MISSING, |(number, _)| *number)
        })
    }
}

fn look_up(btf: &Btf<'_>, member: &Member, missing: &mut Vec<&'static str>) -> Result<u32, OffsetsError> {
    match btf.member_offset(member.of, member.path) {
        Ok(offset) => Ok(offset),
        Err(_) if member.optional => {
            missing.push(member.name);
            Ok(MISSING)
        }
        Err(source) => Err(OffsetsError::Member { of: member.of, path: member.path, source }),
    }
}

fn reset_reasons(btf: &Btf<'_>) -> BTreeMap<u32, String> {
    btf.enum_values("sk_rst_reason")
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, number)| {
            let name = name.strip_prefix("SK_RST_REASON_").unwrap_or(&name).to_owned();
            Some((u32::try_from(number).ok()?, name))
        })
        .collect()
}

/// In the order of the programs' global `DROP_REASONS`.
fn drop_reasons(btf: &Btf<'_>) -> [u32; 3] {
    let reasons = btf.enum_values("skb_drop_reason").unwrap_or_default();
    ["NETFILTER_DROP", "TCP_LISTEN_OVERFLOW", "NEIGH_FAILED"].map(|wanted| {
        let found = reasons.iter().find(|(name, _)| name.strip_prefix("SKB_DROP_REASON_") == Some(wanted));
        found.and_then(|(_, number)| u32::try_from(*number).ok()).unwrap_or(MISSING)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_btf_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), b"not BTF at all").expect("written");
        let error = Layout::read(file.path()).expect_err("no layout").to_string();
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn a_missing_member_is_named() {
        // A header of 24 bytes, no types, and the empty string: valid BTF of a kernel without any struct.
        let mut blob = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        blob.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        let btf = Btf::parse(&blob).expect("valid BTF");
        let error = Layout::from_btf(&btf).expect_err("no layout").to_string();
        assert!(error.contains("has no member sock_common.skc_daddr"), "{error}");
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = Layout::read(Path::new("/nonexistent/btf")).expect_err("no layout").to_string();
        assert!(error.starts_with("cannot read the kernel's BTF at /nonexistent/btf"), "{error}");
    }
}
