//! A port scan without a socket behind it: bare SYNs, as scanners send them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};

use super::tun::{checksum, partial};
use crate::netns::Namespace;

const TH_SYN: u8 = 0x02;

/// Sends a SYN from `from` to each of these ports of `to`. IPv4 only.
///
/// # Errors
/// When the kernel refuses.
pub fn syn(
    namespace: &Namespace,
    from: IpAddr,
    to: IpAddr,
    ports: impl Iterator<Item = u16> + Send,
) -> Result<()> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { bail!("IPv4 only") };
    let scan = || -> io::Result<()> {
        // SAFETY: socket(2) touches no memory.
        let descriptor = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is open and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        ports.into_iter().try_for_each(|port| send(&socket, to, &segment(from, to, port)))
    };
    namespace.enter(scan)?.context("scan with SYNs")
}

fn send(socket: &OwnedFd, to: Ipv4Addr, segment: &[u8]) -> io::Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
        sin_zero: [0; 8],
    };
    let size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: both pointers and sizes describe values that outlive the call.
    let sent = unsafe {
        let address = (&raw const address).cast();
        libc::sendto(socket.as_raw_fd(), segment.as_ptr().cast(), segment.len(), 0, address, size)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn segment(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut tcp = vec![0_u8; 20];
    tcp[0..2].copy_from_slice(&60_999_u16.to_be_bytes());
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    tcp[4..8].copy_from_slice(&1_u32.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = TH_SYN;
    tcp[14..16].copy_from_slice(&1024_u16.to_be_bytes());
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6, 0, 20]].concat();
    let sum = checksum(partial(&pseudo), &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    tcp
}
