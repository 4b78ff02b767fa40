//! What the group `dns` says: a query that was sent to a resolver, and what came back.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tracer_ebpf::wire::dns as wire;

use super::{DecodeError, Process, decode};

/// A process asked a resolver over UDP, or could not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsQuery {
    pub ktime_ns: u64,
    /// Of the socket; with the id it joins an answer to its query.
    pub cookie: u64,
    pub id: u16,
    pub owner: Process,
    /// The owner also reads from accepted connections.
    pub owner_accepts: bool,
    /// The thread that asked.
    pub thread: u32,
    pub local: SocketAddr,
    pub resolver: SocketAddr,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// In small letters, without the last dot; bytes that are no printable ASCII, and dots inside of a label, as
    /// `\DDD` (RFC 1035, 5.1).
    pub name: String,
    pub query_type: QueryType,
    /// Of the system call that failed; 0 if the query was sent.
    pub errno: u32,
}

/// What is asked for: the types that stand for where an upstream is, and all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QueryType {
    A,
    #[serde(rename = "AAAA")]
    Aaaa,
    #[serde(rename = "SRV")]
    Srv,
    #[serde(untagged)]
    Other(u16),
}

/// A socket that had asked received a message, or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswer {
    pub ktime_ns: u64,
    pub cookie: u64,
    pub reply: Reply,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The header of a message.
    Message {
        id: u16,
        /// RCODE of RFC 1035, 4.1.1.
        code: u8,
        /// Cut short: the rest is asked for over TCP.
        truncated: bool,
        /// Records in the answer section.
        answers: u16,
    },
    /// An error of the socket, for whatever was asked on it: `ECONNREFUSED` after an ICMP port unreachable.
    Errno(u32),
}

impl std::fmt::Display for QueryType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::A => f.write_str("A"),
            Self::Aaaa => f.write_str("AAAA"),
            Self::Srv => f.write_str("SRV"),
            Self::Other(number) => write!(f, "TYPE{number}"),
        }
    }
}

impl From<u16> for QueryType {
    /// Numbers of RFC 1035, 3596 and 2782.
    fn from(number: u16) -> Self {
        match number {
            1 => Self::A,
            28 => Self::Aaaa,
            33 => Self::Srv,
            other => Self::Other(other),
        }
    }
}

pub(super) fn query(r: &wire::DnsQuery) -> Result<DnsQuery, DecodeError> {
    let tuple = decode::tuple(&r.tuple);
    Ok(DnsQuery {
        ktime_ns: r.header.ktime_ns,
        cookie: r.cookie,
        id: r.id,
        owner: decode::known_process(&r.owner),
        owner_accepts: r.flags & wire::flag::OWNER_ACCEPTS != 0,
        thread: r.thread,
        local: tuple.local,
        resolver: tuple.peer,
        netns: tuple.netns,
        name: name(&r.name.0).ok_or(DecodeError::Name)?,
        query_type: r.query_type.into(),
        errno: r.errno,
    })
}

pub(super) fn answer(r: &wire::DnsAnswer) -> DnsAnswer {
    let reply = if r.errno != 0 {
        Reply::Errno(r.errno)
    } else {
        Reply::Message {
            id: r.id,
            code: (r.bits & 0xf) as u8,
            truncated: r.bits & 0x0200 != 0,
            answers: r.answers,
        }
    };
    DnsAnswer { ktime_ns: r.header.ktime_ns, cookie: r.cookie, reply }
}

/// The labels up to the empty one with dots between; None if there is no empty one, or a pointer.
fn name(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        let (&length, behind) = rest.split_first()?;
        if length == 0 {
            return Some(text);
        }
        if length > 63 {
            return None;
        }
        let (label, behind) = behind.split_at_checked(usize::from(length))?;
        if !text.is_empty() {
            text.push('.');
        }
        label.iter().for_each(|byte| push(&mut text, *byte));
        rest = behind;
    }
}

fn push(text: &mut String, byte: u8) {
    if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\') {
        text.push(char::from(byte.to_ascii_lowercase()));
    } else {
        // A String takes all that is written to it.
        let _ = write!(text, "\\{byte:03}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_spelled_with_dots_in_small_letters() {
        assert_eq!(name(b"\x03Api\x07example\0zzz").as_deref(), Some("api.example"));
        assert_eq!(name(b"\x04a.\\\x1b\0").as_deref(), Some("a\\046\\092\\027"));
        assert_eq!(name(b"\0").as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for bytes in [&b""[..], b"\x03ap", b"\x03api", b"\xc0\x0c\0"] {
            assert_eq!(name(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn types_survive_a_recording() {
        for number in [1_u16, 28, 33, 16] {
            let json = serde_json::to_string(&QueryType::from(number)).expect("JSON");
            assert_eq!(serde_json::from_str::<QueryType>(&json).expect("read back"), number.into(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn a_name_of_any_bytes_is_printable(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Some(name) = name(&bytes) {
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
