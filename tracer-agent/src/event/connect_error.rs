//! A connect that failed without a trace in TCP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use tracer_ebpf::wire::{self, connect_flag};

use super::decode::process;
use super::{Process, Target, unix, unmapped};

/// connect(2) of a TCP or Unix stream socket returned an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectError {
    pub ktime_ns: u64,
    pub skaddr: u64,
    pub owner: Option<Process>,
    /// None if the address could not be read.
    pub target: Option<Target>,
    /// Of the system call.
    pub errno: u32,
    /// The owner's network namespace.
    pub netns: u32,
    /// The owner also reads from accepted connections.
    pub owner_accepts: bool,
}

/// From its record.
pub(super) fn decode(r: &wire::ConnectError) -> ConnectError {
    let length = usize::try_from(r.address_len).unwrap_or(0).min(r.address.len());
    ConnectError {
        ktime_ns: r.header.ktime_ns,
        skaddr: r.skaddr,
        owner: process(&r.owner),
        target: target(&r.address[..length]),
        errno: r.errno,
        netns: r.netns,
        owner_accepts: r.flags & connect_flag::OWNER_ACCEPTS != 0,
    }
}

/// Reads a `struct sockaddr_in`, `_in6` or `_un`.
fn target(address: &[u8]) -> Option<Target> {
    let (family, rest) = address.split_first_chunk::<2>()?;
    let family = i32::from(u16::from_ne_bytes(*family));
    if family == libc::AF_UNIX {
        return unix::path(rest).map(Target::Unix);
    }
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let ip = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
        // Behind the flow label.
        libc::AF_INET6 => unmapped(*rest.get(4..)?.first_chunk::<16>()?),
        _ => return None,
    };
    Some(Target::Tcp(SocketAddr::new(ip, u16::from_be_bytes(*port))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(address: &[u8]) -> Option<String> {
        target(address).map(|target| target.to_string())
    }

    #[test]
    fn addresses_are_read_as_the_process_gave_them() {
        assert_eq!(
            text(&[2, 0, 0x1f, 0x90, 10, 0, 3, 7, 0, 0, 0, 0, 0, 0, 0, 0]).as_deref(),
            Some("10.0.3.7:8080")
        );
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend(std::net::Ipv6Addr::LOCALHOST.octets());
        v6.extend([0; 4]);
        assert_eq!(text(&v6).as_deref(), Some("[::1]:80"));
        assert_eq!(text(b"\x01\0/run/api.sock\0").as_deref(), Some("unix:/run/api.sock"));
        assert_eq!(text(b"\x01\0\0api").as_deref(), Some("unix:@api"));
        assert_eq!(text(&[2, 0, 0, 80]), None);
        assert_eq!(text(&[1, 0]), None);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..112)) {
            let _ = target(&bytes);
        }
    }
}
