//! What a process tried to reach.

use std::fmt;
use std::net::SocketAddr;

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
