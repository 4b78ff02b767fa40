//! Can this host run the programs, and may we? Each question by trying, not by version.

use std::fs;
use std::path::{Path, PathBuf};

use super::privileges::{self, Held};

/// Where the kernel describes its own types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
/// What lockdown=confidentiality means, and what to do about it.
pub const LOCKED_DOWN: &str = "confidentiality (/sys/kernel/security/lockdown): programs that read its memory by \
                               address are refused; boot it with lockdown=integrity to have them";
/// Where the kernel says how far it is locked down.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// Where whoever starts this process says what it may.
const HOW_TO_GRANT: &str = "(systemd: AmbientCapabilities=, docker: --cap-add)";

/// What the host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    pub kernel: String,
    pub btf: PathBuf,
    pub has_btf: bool,
    /// Capabilities that are missing of those that are needed.
    pub missing_capabilities: Vec<&'static str>,
    /// Capabilities do not count in a user namespace.
    pub in_a_user_namespace: bool,
    /// `lockdown=confidentiality`: no program may read the kernel's memory by address.
    pub is_confidential: bool,
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
        Self {
            kernel,
            has_btf: Path::new(&btf).exists(),
            btf,
            missing_capabilities: Held::now().map(Held::missing).unwrap_or_default(),
            in_a_user_namespace: privileges::in_a_user_namespace(),
            is_confidential: is_confidential(),
        }
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.missing_capabilities.is_empty() {
            return Verdict::NotPermitted(format!(
                "not permitted to load BPF programs: {} missing; run as root, or grant CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE {HOW_TO_GRANT}",
                self.missing_capabilities.join(", ")
            ));
        }
        if self.in_a_user_namespace {
            return Verdict::NotPermitted(
                "not permitted to load BPF programs: this process is in a user namespace, whose CAP_BPF does not \
                 count; run it as root of the host"
                    .into(),
            );
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

    /// The line for a kernel that refuses to give the programs a helper: locked down, or too old.
    #[must_use]
    pub fn no_helper(&self) -> String {
        if self.is_confidential {
            format!("kernel {} is locked down: {LOCKED_DOWN}", self.kernel)
        } else {
            self.too_old()
        }
    }

    /// The line for a kernel without socket storage in tracing programs (before Linux 5.11).
    fn too_old(&self) -> String {
        format!(
            "kernel {} is too old: tracing programs have no socket storage before Linux 5.11; use 5.14 or newer",
            self.kernel
        )
    }
}

/// Whether the kernel keeps its memory from everybody, root included (kernel_lockdown(7)). The file is only there where
/// securityfs is mounted; the parameter is only one of the ways to lock a kernel down.
fn is_confidential() -> bool {
    let says = |path: &str, words: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(words));
    says(LOCKDOWN, "[confidentiality]") || says("/proc/cmdline", "lockdown=confidentiality")
}

/// The line for a process that the kernel refuses though it has the capabilities.
#[must_use]
pub fn held_back(error: &dyn std::error::Error) -> String {
    format!(
        "not permitted to use bpf(2) in spite of the capabilities of this process: a seccomp filter or a security \
         module forbids it ({error}); allow bpf and perf_event_open where this process is started"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn support() -> Support {
        Support {
            kernel: "6.1.0".into(),
            btf: BTF_PATH.into(),
            has_btf: true,
            missing_capabilities: vec![],
            in_a_user_namespace: false,
            is_confidential: false,
        }
    }

    #[test]
    fn missing_capabilities_are_named_with_the_remedy() {
        let unprivileged = Support { missing_capabilities: vec!["CAP_BPF", "CAP_PERFMON"], ..support() };
        let Verdict::NotPermitted(line) = unprivileged.verdict() else { panic!("permitted") };
        assert!(line.contains("CAP_BPF, CAP_PERFMON missing; run as root"), "{line}");
    }

    #[test]
    fn capabilities_of_a_user_namespace_do_not_count() {
        let Verdict::NotPermitted(line) = (Support { in_a_user_namespace: true, ..support() }).verdict()
        else {
            panic!("permitted")
        };
        assert!(line.contains("in a user namespace"), "{line}");
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
