//! Groups of hooks: `core` is always on, the others cost something that not every host wants to pay, and are
//! loaded only where they are asked for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tracer_ebpf::config::group;

/// A group of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Core,
    ConnectErrors,
    Unix,
    Dns,
}

/// Which optional groups are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups(u32);

/// A word that names no group.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no group of hooks: unix, dns, connect-errors and all are")]
pub struct UnknownGroup(String);

/// What stands for every optional group.
const ALL: &str = "all";

// === impl Group ===

impl Group {
    /// Those that have to be asked for, in the order in which they are listed.
    pub const OPTIONAL: [Self; 3] = [Self::ConnectErrors, Self::Unix, Self::Dns];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::ConnectErrors => "connect-errors",
            Self::Unix => "unix",
            Self::Dns => "dns",
        }
    }

    /// What is told with it, and not without.
    #[must_use]
    pub const fn gives(self) -> &'static str {
        match self {
            Self::Core => "TCP connections, listeners and processes",
            Self::ConnectErrors => "connects that fail before a SYN is sent: no route, a local packet filter",
            Self::Unix => "upstreams on Unix sockets",
            Self::Dns => "names of upstreams that do not resolve",
        }
    }

    /// What it costs the host.
    #[must_use]
    pub const fn costs(self) -> &'static str {
        match self {
            Self::Core => "no hook for each packet or system call",
            Self::ConnectErrors => "a look at each system call of the host as it returns",
            Self::Unix => "the same, and a look at each message on any socket",
            Self::Dns => {
                "a look at each message on any socket, and a record for each question to a resolver and its answer"
            }
        }
    }

    const fn bit(self) -> u32 {
        match self {
            Self::Core => 0,
            Self::ConnectErrors => group::CONNECT_ERRORS,
            Self::Unix => group::UNIX,
            Self::Dns => group::DNS,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// === impl Groups ===

impl Groups {
    /// Every group there is.
    #[must_use]
    pub fn all() -> Self {
        Group::OPTIONAL.into_iter().collect()
    }

    /// Whether a group is on; `core` always is.
    #[must_use]
    pub fn has(self, group: Group) -> bool {
        self.0 & group.bit() == group.bit()
    }

    /// The optional ones that are on.
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::OPTIONAL.into_iter().filter(move |group| self.has(*group))
    }

    /// As the programs know them (`config::group`).
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromIterator<Group> for Groups {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        Self(groups.into_iter().fold(0, |bits, group| bits | group.bit()))
    }
}

impl FromIterator<Groups> for Groups {
    fn from_iter<I: IntoIterator<Item = Groups>>(groups: I) -> Self {
        Self(groups.into_iter().fold(0, |bits, groups| bits | groups.0))
    }
}

impl FromStr for Groups {
    type Err = UnknownGroup;

    /// One word of a list: a group, or `all`.
    fn from_str(word: &str) -> Result<Self, UnknownGroup> {
        if word == ALL {
            return Ok(Self::all());
        }
        let group = Group::OPTIONAL.into_iter().find(|group| group.name() == word);
        group
            .map(|group| Self(group.bit()))
            .ok_or_else(|| UnknownGroup(word.escape_debug().take(80).collect()))
    }
}

impl fmt::Display for Groups {
    /// As `--with` takes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Group::name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_groups_and_core_needs_no_word() {
        let some: Groups =
            ["unix", "dns"].iter().map(|word| word.parse::<Groups>().expect("a group")).collect();
        assert!(some.has(Group::Core) && some.has(Group::Unix) && some.has(Group::Dns));
        assert!(!some.has(Group::ConnectErrors));
        assert_eq!(some.to_string(), "unix,dns");
        assert_eq!("all".parse(), Ok(Groups::all()));
        assert_eq!("core".parse::<Groups>(), Err(UnknownGroup("core".into())));
    }
}
