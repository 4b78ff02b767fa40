//! A link made of two TUN devices: it delays, it swallows, and it forges RSTs as a middlebox does. IPv4 only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::netns::{Namespace, Net};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const PROTOCOL_TCP: u8 = 6;
const TH_SYN: u8 = 0x02;
const TH_RST: u8 = 0x04;
const TH_ACK: u8 = 0x10;

/// The link's controls.
#[derive(Debug, Clone)]
pub struct Tun {
    gateway: Arc<File>,
    upstream: Arc<File>,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
struct Control {
    delay_ms: AtomicU64,
    /// Packets to the upstream, and to the gateway, are swallowed.
    cut: [AtomicBool; 2],
    /// RSTs that were swallowed on their way to the upstream, and to the gateway.
    swallowed_resets: [AtomicU64; 2],
    /// The last segment that went to the upstream, and to the gateway.
    last: [Mutex<Option<Vec<u8>>>; 2],
}

/// Where a packet goes; the index of its place in `Control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Upstream = 0,
    Gateway = 1,
}

impl Tun {
    /// Makes the devices and starts to forward between them.
    ///
    /// # Errors
    /// When a device cannot be made.
    pub fn join(net: &mut Net) -> Result<Self> {
        let gateway = Arc::new(device(net.gateway(), "up0", &net.host(1), &net.host(2))?);
        let upstream = Arc::new(device(net.upstream(), "gw0", &net.host(2), &net.host(1))?);
        let control = Arc::new(Control::default());
        forward(&gateway, &upstream, &control, To::Upstream);
        forward(&upstream, &gateway, &control, To::Gateway);
        Ok(Self { gateway, upstream, control })
    }

    /// Delays every packet from now on, in each direction.
    pub fn delay(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.control.delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Swallows every packet from now on, in both directions, or lets them pass again.
    pub fn cut(&self, cut: bool) {
        for way in &self.control.cut {
            way.store(cut, Ordering::Relaxed);
        }
    }

    /// Swallows what goes to the upstream only.
    pub fn cut_to_upstream(&self, cut: bool) {
        self.control.cut[To::Upstream as usize].store(cut, Ordering::Relaxed);
    }

    /// Swallows what goes to the gateway only.
    pub fn cut_to_gateway(&self, cut: bool) {
        self.control.cut[To::Gateway as usize].store(cut, Ordering::Relaxed);
    }

    /// RSTs to the gateway that were swallowed until now.
    pub fn swallowed_resets_to_gateway(&self) -> u64 {
        self.control.swallowed_resets[To::Gateway as usize].load(Ordering::Relaxed)
    }

    /// Sends the gateway a RST in the upstream's name, for the connection whose segment passed last.
    ///
    /// # Errors
    /// When no segment has passed yet.
    pub fn forge_to_gateway(&self) -> Result<()> {
        self.forge(To::Upstream, &self.gateway)
    }

    /// Sends the upstream a RST in the gateway's name.
    ///
    /// # Errors
    /// When no segment has passed yet.
    pub fn forge_to_upstream(&self) -> Result<()> {
        self.forge(To::Gateway, &self.upstream)
    }

    /// Answers the last segment of one direction in the name of whom it was for.
    fn forge(&self, answers: To, mut device: &File) -> Result<()> {
        let last = self.control.last[answers as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let reset = reset_for(last.as_deref().context("no segment has passed yet")?);
        device.write_all(&reset).context("write the forged RST")
    }
}

/// Makes a TUN device in `namespace` and gives it an address whose peer is `other`.
fn device(namespace: &Namespace, name: &str, own: &str, other: &str) -> Result<File> {
    let file = namespace.enter(|| open(name))?.with_context(|| format!("make the TUN device {name}"))?;
    namespace.ip(&["addr", "add", own, "peer", other, "dev", name])?;
    namespace.ip(&["link", "set", name, "up"])?;
    Ok(file)
}

fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes one `ifreq`, which lives for the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// One thread reads, one writes what is due. Both end when the devices go with their namespaces.
fn forward(from: &Arc<File>, to: &Arc<File>, control: &Arc<Control>, way: To) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let (from, to, control) = (Arc::clone(from), Arc::clone(to), Arc::clone(control));
    thread::spawn(move || {
        let mut buffer = vec![0_u8; 1 << 16];
        while let Ok(length @ 1..) = (&*from).read(&mut buffer) {
            let packet = buffer[..length].to_vec();
            if control.cut[way as usize].load(Ordering::Relaxed) {
                if is_reset(&packet) {
                    control.swallowed_resets[way as usize].fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            if is_segment(&packet) {
                *control.last[way as usize].lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(packet.clone());
            }
            let delay = Duration::from_millis(control.delay_ms.load(Ordering::Relaxed));
            if sender.send((Instant::now() + delay, packet)).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, packet) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if (&*to).write_all(&packet).is_err() {
                break;
            }
        }
    });
}

/// A TCP segment over IPv4 that is neither SYN nor RST.
fn is_segment(packet: &[u8]) -> bool {
    tcp_flags(packet).is_some_and(|flags| flags & (TH_SYN | TH_RST) == 0 && flags & TH_ACK != 0)
}

fn is_reset(packet: &[u8]) -> bool {
    tcp_flags(packet).is_some_and(|flags| flags & TH_RST != 0)
}

/// The flags of a TCP segment over IPv4; none for anything else.
fn tcp_flags(packet: &[u8]) -> Option<u8> {
    let is_tcp = packet.len() >= 40 && packet[0] >> 4 == 4 && packet[9] == PROTOCOL_TCP;
    if is_tcp { flags(packet) } else { None }
}

fn flags(packet: &[u8]) -> Option<u8> {
    packet.get(header_length(packet) + 13).copied()
}

fn header_length(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0xf) * 4
}

/// The RST that answers a segment: its sequence number is the one that the segment's sender expects next.
fn reset_for(segment: &[u8]) -> Vec<u8> {
    let tcp = &segment[header_length(segment)..];
    let mut packet = vec![0_u8; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = PROTOCOL_TCP;
    packet[12..16].copy_from_slice(&segment[16..20]);
    packet[16..20].copy_from_slice(&segment[12..16]);
    let sum = checksum(0, &packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..22].copy_from_slice(&tcp[2..4]);
    packet[22..24].copy_from_slice(&tcp[0..2]);
    packet[24..28].copy_from_slice(&tcp[8..12]);
    packet[32] = 5 << 4;
    packet[33] = TH_RST;
    let pseudo = [&packet[12..20], &[0, PROTOCOL_TCP, 0, 20]].concat();
    let sum = checksum(partial(&pseudo), &packet[20..]);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

pub(super) fn partial(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

pub(super) fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + partial(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
