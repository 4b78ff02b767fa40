//! Can this host run the programs, and may we? Each question by trying, not by version.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

/// Where the kernel describes its own types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What the host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    pub kernel: String,
    pub btf: PathBuf,
    pub has_btf: bool,
    /// Capabilities that are missing of those that are needed.
    pub missing_capabilities: Vec<&'static str>,
    /// CAP_SYS_ADMIN holds the others.
    pub is_admin: bool,
}

/// Whether it will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Supported,
    /// Reason and remedy, one line.
    NotPermitted(String),
    Unsupported(String),
}

impl Support {
    /// Looks at the running host.
    #[must_use]
    pub fn probe() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let btf = std::env::var_os("RSTRACE_BTF").map_or_else(|| PathBuf::from(BTF_PATH), PathBuf::from);
        let (is_admin, missing_capabilities) = capabilities();
        Self { kernel, has_btf: Path::new(&btf).exists(), btf, missing_capabilities, is_admin }
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.missing_capabilities.is_empty() {
            return Verdict::NotPermitted(format!(
                "not permitted to load BPF programs: {} missing; run as root, or grant CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE",
                self.missing_capabilities.join(", ")
            ));
        }
        if !self.has_btf {
            return Verdict::Unsupported(format!(
                "kernel {} has no BTF at {}: it needs CONFIG_DEBUG_INFO_BTF=y, as distribution kernels since 5.14 have",
                self.kernel,
                self.btf.display()
            ));
        }
        Verdict::Supported
    }

    /// The line for a kernel without socket storage in tracing programs (before Linux 5.11).
    #[must_use]
    pub fn too_old(&self) -> String {
        format!(
            "kernel {} is too old: tracing programs have no socket storage before Linux 5.11; use 5.14 or newer",
            self.kernel
        )
    }
}

/// The verifier's words for a helper that this kernel does not give to tracing programs. On 5.10 that is socket
/// storage, without which there are no per-connection marks.
#[must_use]
pub fn lacks_a_helper(verifier_log: &str) -> bool {
    ["invalid func ", "unknown func ", "program of this type cannot use helper "]
        .iter()
        .any(|words| verifier_log.contains(words))
}

/// The line of a verifier's log that says why it refused: the last one that is no statistics.
#[must_use]
pub fn last_words(verifier_log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let said = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|words| line.starts_with(words));
    verifier_log.lines().map(str::trim).rfind(said)
}

/// What CAP_SYS_ADMIN would hold, and what is missing without it.
fn capabilities() -> (bool, Vec<&'static str>) {
    let Ok(sets) = rustix::thread::capabilities(None) else { return (false, vec![]) };
    let has = |set| sets.effective.contains(set);
    let is_admin = has(CapabilitySet::SYS_ADMIN);
    let needed = [
        ("CAP_BPF", has(CapabilitySet::BPF) || is_admin),
        ("CAP_PERFMON", has(CapabilitySet::PERFMON) || is_admin),
        ("CAP_SYS_PTRACE", has(CapabilitySet::SYS_PTRACE)),
    ];
    (is_admin, needed.iter().filter(|(_, held)| !held).map(|(name, _)| *name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn support() -> Support {
        Support {
            kernel: "6.1.0".into(),
            btf: BTF_PATH.into(),
            has_btf: true,
            missing_capabilities: vec![],
            is_admin: true,
        }
    }

    #[test]
    fn missing_capabilities_are_named_with_the_remedy() {
        let unprivileged = Support { missing_capabilities: vec!["CAP_BPF", "CAP_PERFMON"], ..support() };
        let Verdict::NotPermitted(line) = unprivileged.verdict() else { panic!("permitted") };
        assert!(line.contains("CAP_BPF, CAP_PERFMON missing; run as root"), "{line}");
    }

    #[test]
    fn a_kernel_without_btf_is_unsupported() {
        let Verdict::Unsupported(line) = (Support { has_btf: false, ..support() }).verdict() else {
            panic!("supported")
        };
        assert!(line.contains("has no BTF at /sys/kernel/btf/vmlinux"), "{line}");
    }

    #[test]
    fn the_verifiers_words_for_a_missing_helper_are_known() {
        assert!(lacks_a_helper("12: (85) call bpf_sk_storage_get#107\nunknown func bpf_sk_storage_get#107"));
        assert!(!lacks_a_helper("R1 invalid mem access 'scalar'"));
    }

    #[test]
    fn statistics_are_not_the_reason_of_a_refusal() {
        let log = "0: R1=ctx\nunknown func bpf_sk_storage_get#107\nverification time 42 usec\nstack depth 176+0\n\
                   processed 12 insns (limit 1000000)\n\n";
        assert_eq!(last_words(log), Some("unknown func bpf_sk_storage_get#107"));
        assert_eq!(last_words("processed 0 insns\n"), None);
    }
}
