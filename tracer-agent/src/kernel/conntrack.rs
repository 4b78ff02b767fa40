//! Where a connection was really led to: the address that the host's connection tracking put in place of the dialled one
//! (DNAT), such as a pod's behind that of its Service.
//!
//! Asked of the tracking in this process's own network namespace, one connection at a time
//! (`net/netfilter/nf_conntrack_netlink.c`, `ctnetlink_get_conntrack`), which the kernel answers before the question
//! returns. It wants CAP_NET_ADMIN from who opened the socket and from who asks.
//!
//! The kernel knows a connection for 10 s after a RST and for two minutes after a FIN. Of one that was refused it knows
//! nothing: the entry goes with the RST (`nf_conntrack_tcp_packet`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::privileges::Held;

/// An answer about one connection takes some 300 bytes.
const ANSWER: usize = 8192;
/// Answers to earlier questions that are passed over, which there should be none of.
const PASSED_OVER: usize = 16;

/// Who can be asked.
#[derive(Debug)]
pub struct Conntrack {
    asking: Mutex<Asking>,
}

#[derive(Debug)]
struct Asking {
    socket: Socket,
    sequence: u32,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    #[error("that takes CAP_NET_ADMIN")]
    NotPermitted,
    #[error("cannot open a socket to the kernel's connection tracking: {0}")]
    Socket(#[from] io::Error),
}

// === impl Conntrack ===

impl Conntrack {
    /// # Errors
    /// If this thread may not ask, or there can be no such socket.
    pub fn open() -> Result<Self, ConntrackError> {
        if !Held::now().is_some_and(Held::may_ask_conntrack) {
            return Err(ConntrackError::NotPermitted);
        }
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self { asking: Mutex::new(Asking { socket, sequence: 0 }) })
    }

    /// Where a connection from `local` that dialled `peer` was led to; None: there, or it is not known.
    #[must_use]
    pub fn behind(&self, local: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        let (local, peer) = (canonical(local), canonical(peer));
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.ask(local, peer).filter(|led_to| *led_to != peer)
    }
}

impl Asking {
    fn ask(&mut self, local: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&question(local, peer, self.sequence)?, 0).ok()?;
        for _ in 0..PASSED_OVER {
            let mut answered = Vec::with_capacity(ANSWER);
            self.socket.recv(&mut answered, 0).ok()?;
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(&answered).ok()?;
            if message.header.sequence_number == self.sequence {
                return answer(message);
            }
        }
        None
    }
}

/// IPv4 addresses on IPv6 sockets are IPv4's on the way.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// None: one is of another family than the other.
fn question(local: SocketAddr, peer: SocketAddr, sequence: u32) -> Option<Vec<u8>> {
    let family = match (local.ip(), peer.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => NetfilterProtoFamily::IPv4,
        (IpAddr::V6(_), IpAddr::V6(_)) => NetfilterProtoFamily::IPv6,
        _ => return None,
    };
    let dialled = ConntrackAttribute::CtaTupleOrig(vec![
        Tuple::Ip(vec![IPTuple::SourceAddress(local.ip()), IPTuple::DestinationAddress(peer.ip())]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(local.port()),
            ProtoTuple::DestinationPort(peer.port()),
        ]),
    ]);
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let message =
        NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), ConntrackMessage::Get(vec![dialled]));
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Some(bytes)
}

/// Whose answers come back: the source of the reply direction.
fn answer(message: NetlinkMessage<NetfilterMessage>) -> Option<SocketAddr> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
        return None;
    };
    let reply = attributes.into_iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleReply(tuples) => Some(tuples),
        _ => None,
    })?;
    let (mut ip, mut port) = (None, None);
    for tuple in reply {
        match tuple {
            Tuple::Ip(parts) => {
                ip = parts.into_iter().find_map(|part| match part {
                    IPTuple::SourceAddress(ip) => Some(ip),
                    _ => None,
                });
            }
            Tuple::Proto(parts) => {
                port = parts.into_iter().find_map(|part| match part {
                    ProtoTuple::SourcePort(port) => Some(port),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(SocketAddr::new(ip?, port?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> NetlinkMessage<NetfilterMessage> {
        NetlinkMessage::deserialize(bytes).unwrap()
    }

    /// As `conntrack -G -p tcp -s 10.0.0.1 -d 10.96.0.10 --sport 40000 --dport 80` sends it.
    #[test]
    fn the_question_names_the_connection_as_it_was_dialled() {
        let [local, peer] = ["10.0.0.1:40000", "10.96.0.10:80"].map(|text| text.parse().unwrap());
        let bytes = question(local, peer, 7).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // nlmsghdr: length, IPCTNL_MSG_CT_GET of NFNL_SUBSYS_CTNETLINK, NLM_F_REQUEST, the number of the question.
        assert_eq!(bytes[..4], (bytes.len() as u32).to_ne_bytes());
        assert_eq!(bytes[4..12], [1, 1, 1, 0, 7, 0, 0, 0]);
        // nfgenmsg: AF_INET.
        assert_eq!(bytes[16..20], [2, 0, 0, 0]);
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        for part in [&[10, 0, 0, 1][..], &[10, 96, 0, 10], &40_000_u16.to_be_bytes(), &[0, 80], &[6]] {
            assert!(holds(part), "no {part:?} in {bytes:?}");
        }
    }

    #[test]
    fn two_families_are_no_connection() {
        let [v4, v6] = ["10.0.0.1:1", "[2001:db8::1]:80"].map(|text| text.parse().unwrap());
        assert_eq!(question(v4, v6, 1), None);
        assert!(question(canonical("[::ffff:10.0.0.1]:1".parse().unwrap()), v4, 1).is_some());
    }

    #[test]
    fn the_answer_is_where_replies_come_from() {
        let tuple = |source: &str, destination: &str| {
            let [source, destination]: [SocketAddr; 2] =
                [source, destination].map(|text| text.parse().unwrap());
            vec![
                Tuple::Ip(vec![
                    IPTuple::SourceAddress(source.ip()),
                    IPTuple::DestinationAddress(destination.ip()),
                ]),
                Tuple::Proto(vec![
                    ProtoTuple::Protocol(Protocol::Tcp),
                    ProtoTuple::SourcePort(source.port()),
                    ProtoTuple::DestinationPort(destination.port()),
                ]),
            ]
        };
        let told = ConntrackMessage::New(vec![
            ConntrackAttribute::CtaTupleOrig(tuple("10.0.0.1:40000", "10.96.0.10:80")),
            ConntrackAttribute::CtaTupleReply(tuple("10.244.1.9:8080", "10.0.0.1:40000")),
        ]);
        let told = NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0), told);
        let mut told = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(told));
        told.finalize();
        let mut bytes = vec![0; told.buffer_len()];
        told.serialize(&mut bytes);
        assert_eq!(answer(message(&bytes)), "10.244.1.9:8080".parse().ok());
        // What it says of a connection that it does not know (ENOENT).
        let mut unknown = [[36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0], [0; 12], [0; 12]].concat();
        unknown[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(answer(message(&unknown)), None);
    }
}
