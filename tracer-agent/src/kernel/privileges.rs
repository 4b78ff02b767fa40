//! Capabilities: which feature wants which, which of them this process has, and giving up the rest.
//!
//! They belong to a thread, not to the process, and a thread inherits those of the one that starts it. So
//! [`keep_what_works_on`] is called before threads start that shall have no more, and a thread that is older calls
//! [`give_up_all`] itself.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A capability, and what it is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub capability: &'static str,
    set: CapabilitySet,
    /// Without it nothing works, and it is kept. What is not required is given up once everything is attached.
    pub required: bool,
    /// The feature that wants it.
    pub wanted_for: &'static str,
}

/// Every capability that a feature wants.
pub const NEEDS: &[Need] = &[
    Need {
        capability: "CAP_BPF",
        set: CapabilitySet::BPF,
        required: true,
        wanted_for: "making maps and loading programs; before Linux 5.19 also reading maps",
    },
    Need {
        capability: "CAP_PERFMON",
        set: CapabilitySet::PERFMON,
        required: true,
        wanted_for: "programs that trace the kernel and read its memory",
    },
    Need {
        capability: "CAP_SYS_PTRACE",
        set: CapabilitySet::SYS_PTRACE,
        required: true,
        wanted_for: "/proc of processes that have more rights or another user: network namespaces, hidden cgroups",
    },
    Need {
        capability: "CAP_NET_BIND_SERVICE",
        set: CapabilitySet::NET_BIND_SERVICE,
        required: false,
        wanted_for: "`--listen` on a port below 1024",
    },
    Need {
        capability: "CAP_DAC_OVERRIDE",
        set: CapabilitySet::DAC_OVERRIDE,
        required: false,
        wanted_for: "`--socket` and recordings in a folder of another user",
    },
    Need {
        capability: "CAP_NET_ADMIN",
        set: CapabilitySet::NET_ADMIN,
        required: false,
        wanted_for: "`--kubernetes`: the pod behind a Service's address, from conntrack; kept only then",
    },
    Need {
        capability: "CAP_SETPCAP",
        set: CapabilitySet::SETPCAP,
        required: false,
        wanted_for: "giving the rest up for good, in the bounding set too; without it no_new_privs does the same",
    },
];

/// What the kernel takes in place of CAP_BPF and CAP_PERFMON. Never asked for: it allows nearly everything.
const STANDS_IN: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// The whole range of user ids: what the first user namespace maps.
const ALL_IDS: u64 = u32::MAX as u64;

/// What this thread may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held(CapabilitySet);

// === impl Held ===

impl Held {
    /// Asks the kernel; None where it does not say.
    #[must_use]
    pub fn now() -> Option<Self> {
        rustix::thread::capabilities(None).ok().map(|sets| Self(sets.effective))
    }

    /// Whether the kernel will let a feature pass that wants this.
    #[must_use]
    pub fn suffices(self, need: &Need) -> bool {
        self.0.contains(need.set) || self.is_stood_in_for(need)
    }

    /// Whether conntrack may be asked.
    #[must_use]
    pub fn may_ask_conntrack(self) -> bool {
        self.0.contains(CapabilitySet::NET_ADMIN)
    }

    /// Whether it is CAP_SYS_ADMIN that lets it pass.
    #[must_use]
    pub fn is_stood_in_for(self, need: &Need) -> bool {
        let replaced = CapabilitySet::BPF | CapabilitySet::PERFMON;
        !self.0.contains(need.set) && replaced.contains(need.set) && self.0.contains(STANDS_IN)
    }

    /// Those that are required and missing.
    #[must_use]
    pub fn missing(self) -> Vec<&'static str> {
        let missing = NEEDS.iter().filter(|need| need.required && !self.suffices(need));
        missing.map(|need| need.capability).collect()
    }

    /// What the work after attaching needs, of what is held.
    fn worth_keeping(self, for_conntrack: bool) -> CapabilitySet {
        let required = NEEDS.iter().filter(|need| need.required);
        let asked = if for_conntrack { self.0 & CapabilitySet::NET_ADMIN } else { CapabilitySet::empty() };
        required.fold(asked, |kept, need| {
            kept | if self.is_stood_in_for(need) { STANDS_IN } else { self.0 & need.set }
        })
    }
}

/// Gives up what the work after attaching does not need: effective, permitted, inheritable and ambient, and so that
/// no program that is started could get it back. `for_conntrack` keeps what conntrack wants, if it is held.
///
/// # Errors
/// If the kernel refuses, as a seccomp filter may.
pub(super) fn keep_what_works_on(for_conntrack: bool) -> io::Result<()> {
    let held = Held(rustix::thread::capabilities(None)?.permitted);
    give_up_all_but(held.worth_keeping(for_conntrack))
}

/// For a thread that only uses what was opened before.
///
/// # Errors
/// If the kernel refuses, as a seccomp filter may.
pub fn give_up_all() -> io::Result<()> {
    give_up_all_but(CapabilitySet::empty())
}

fn give_up_all_but(kept: CapabilitySet) -> io::Result<()> {
    let given_up = || {
        // Root gets its rights back with each program that it starts, unless this is set or the bounding set is empty.
        rustix::thread::set_no_new_privs(true)?;
        bound_by(kept)?;
        rustix::thread::clear_ambient_capability_set()?;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)
    };
    given_up().map_err(|why: Errno| {
        let why = io::Error::from(why);
        io::Error::new(why.kind(), format!("cannot give up capabilities that are not needed: {why}"))
    })
}

/// Takes all else out of the bounding set, where CAP_SETPCAP allows it.
fn bound_by(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Not allowed, or the first number beyond what this kernel knows.
            Err(Errno::PERM | Errno::INVAL) => break,
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Whether this process is in a user namespace of its own, whose capabilities do not count for the kernel's programs.
#[must_use]
pub(super) fn in_a_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_all_ids(&map))
}

/// Reads a `uid_map` (user_namespaces(7)): first id inside, first id outside, how many.
fn maps_all_ids(map: &str) -> bool {
    let words: Vec<u64> = map.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    words == [0, 0, ALL_IDS]
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: CapabilitySet =
        CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::SYS_PTRACE);

    #[test]
    fn three_suffice_and_each_is_missed() {
        assert_eq!(Held(THREE).missing(), Vec::<&str>::new());
        for need in NEEDS.iter().filter(|need| need.required) {
            assert_eq!(Held(THREE - need.set).missing(), [need.capability]);
        }
    }

    #[test]
    fn sys_admin_stands_in_for_two_of_them_and_is_kept_only_then() {
        let admin = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
        assert_eq!(Held(CapabilitySet::SYS_ADMIN).missing(), ["CAP_SYS_PTRACE"]);
        assert_eq!(Held(admin).worth_keeping(false), admin);
        assert_eq!(Held(CapabilitySet::all()).worth_keeping(false), THREE);
    }

    #[test]
    fn what_conntrack_wants_is_kept_for_it_alone_and_only_if_it_is_held() {
        let all = Held(CapabilitySet::all());
        assert_eq!(all.worth_keeping(true), THREE | CapabilitySet::NET_ADMIN);
        assert_eq!(Held(THREE).worth_keeping(true), THREE);
        assert!(all.may_ask_conntrack() && !Held(THREE).may_ask_conntrack());
    }

    #[test]
    fn the_first_user_namespace_maps_every_id() {
        assert!(maps_all_ids("         0          0 4294967295\n"));
        assert!(!maps_all_ids("         0       1000          1\n"));
        assert!(!maps_all_ids(""));
    }
}
