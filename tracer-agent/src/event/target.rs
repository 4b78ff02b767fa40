//! What a process tried to reach.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a process tried to reach. Its text is the `upstream` of JSON, metrics and filters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Tcp(SocketAddr),
    /// Path of a Unix socket as it was dialled, `@name` for an abstract one: bytes that a process chose.
    Unix(String),
    /// A name that was to be resolved, as it was asked for.
    Dns(String),
}

impl Target {
    /// Before a path.
    pub const UNIX: &str = "unix:";
    /// Before a name.
    pub const DNS: &str = "dns:";
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}{path}", Self::UNIX),
            Self::Dns(name) => write!(f, "{}{name}", Self::DNS),
        }
    }
}

impl FromStr for Target {
    /// What is wrong with it as an address: everything else has its prefix.
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match (text.strip_prefix(Self::UNIX), text.strip_prefix(Self::DNS)) {
            (Some(path), _) if !path.is_empty() => Ok(Self::Unix(path.to_owned())),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Dns(name.to_owned())),
            _ => text.parse().map(Self::Tcp),
        }
    }
}
