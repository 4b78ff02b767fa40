//! What the kernel counts itself of TCP, in each network namespace (/proc/net/snmp and /proc/net/netstat).

use serde::{Deserialize, Serialize};
use tracer_ebpf::wire::seen;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A counter, by the kernel's own name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Counter {
            $($(#[$doc])* $name,)+
        }

        impl Counter {
            /// All of them; those that the programs count too come first, in the order of `wire::seen`.
            pub const ALL: [Self; [$(stringify!($name)),+].len()] = [$(Self::$name),+];

            /// As the kernel spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

counters! {
    /// RSTs sent.
    OutRsts,
    /// Connections that went from ESTABLISHED or CLOSE_WAIT straight to CLOSE.
    EstabResets,
    /// Connects and handshakes that failed.
    AttemptFails,
    /// Data for a closed socket, and closes with SO_LINGER 0.
    TCPAbortOnData,
    /// Closes with unread data.
    TCPAbortOnClose,
    /// Retransmissions or keep-alive probes that nobody answered.
    TCPAbortOnTimeout,
    /// TCP_LINGER2 below 0.
    TCPAbortOnLinger,
    /// Too many orphans, or no memory for sockets.
    TCPAbortOnMemory,
    /// A RST that could not be made or sent; no hook fires.
    TCPAbortFailed,
    /// Handshakes that the peer gave up with a RST or began anew; no hook fires.
    EmbryonicRsts,
    /// Handshakes that found the accept queue full; no hook fires for all of them.
    ListenOverflows,
    /// SYNs and handshakes dropped for whatever reason, those of `ListenOverflows` included; no hook fires.
    ListenDrops,
    /// SYNs dropped since the queue of handshakes is full; no hook fires.
    TCPReqQFullDrop,
}

/// The counters of a network namespace at some moment, in the order of [`Counter::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mib(pub [u64; Counter::ALL.len()]);

impl Mib {
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// From the texts of /proc/net/snmp and /proc/net/netstat: pairs of lines, names above values. What a kernel
    /// does not have stays 0; None if there is no TCP in it at all.
    #[must_use]
    pub fn parse(snmp: &str, netstat: &str) -> Option<Self> {
        let mut mib = Self::default();
        let tcp = mib.take(snmp, "Tcp: ");
        mib.take(netstat, "TcpExt: ");
        tcp.then_some(mib)
    }

    fn take(&mut self, text: &str, prefix: &str) -> bool {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return false };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if let (Some(counter), Ok(value)) =
                (Counter::ALL.into_iter().find(|c| c.name() == name), value.parse())
            {
                self.0[counter as usize] = value;
            }
        }
        true
    }
}

/// Handshakes that the kernel dropped in a network namespace between two looks at its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDrops {
    /// The look before and this one, `CLOCK_MONOTONIC` nanoseconds.
    pub since_ns: u64,
    pub ktime_ns: u64,
    /// Inode number.
    pub netns: u32,
    /// `ListenOverflows`.
    pub overflows: u64,
    /// `ListenDrops`, which holds the overflows too.
    pub drops: u64,
    /// `TCPReqQFullDrop`.
    pub handshakes_full: u64,
}

impl QueueDrops {
    /// By how much the counters have risen from one look to the next; None if none has, or one has fallen.
    #[must_use]
    pub fn between(
        netns: u32,
        (since_ns, before): (u64, &Mib),
        (ktime_ns, now): (u64, &Mib),
    ) -> Option<Self> {
        let rise = |counter| now.get(counter).checked_sub(before.get(counter));
        let overflows = rise(Counter::ListenOverflows)?;
        let drops = rise(Counter::ListenDrops)?;
        let handshakes_full = rise(Counter::TCPReqQFullDrop)?;
        let any = overflows > 0 || drops > 0 || handshakes_full > 0;
        any.then_some(Self { since_ns, ktime_ns, netns, overflows, drops, handshakes_full })
    }

    /// Both, of one namespace, as if there had been no look between them.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            since_ns: self.since_ns.min(other.since_ns),
            ktime_ns: self.ktime_ns.max(other.ktime_ns),
            netns: self.netns,
            overflows: self.overflows.saturating_add(other.overflows),
            drops: self.drops.saturating_add(other.drops),
            handshakes_full: self.handshakes_full.saturating_add(other.handshakes_full),
        }
    }
}

/// What the running kernel lets the hooks see of what it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// `tcp_send_reset` is attached.
    pub sees_resets: bool,
    /// RSTs that no socket sends are seen too, of both families.
    pub sees_refusals: bool,
    /// A RST says whether it is TCP_LINGER2's or for want of memory.
    pub knows_abort_reasons: bool,
    /// Runs of programs that the kernel skipped, on the whole host.
    pub skipped: u64,
}

const _: () = assert!(Counter::OutRsts as u32 == seen::OUT_RSTS);
const _: () = assert!(Counter::EstabResets as u32 == seen::ESTAB_RESETS);
const _: () = assert!(Counter::AttemptFails as u32 == seen::ATTEMPT_FAILS);
const _: () = assert!(Counter::TCPAbortOnData as u32 == seen::ABORT_ON_DATA);
const _: () = assert!(Counter::TCPAbortOnClose as u32 == seen::ABORT_ON_CLOSE);
const _: () = assert!(Counter::TCPAbortOnTimeout as u32 == seen::ABORT_ON_TIMEOUT);
const _: () = assert!(Counter::TCPAbortOnLinger as u32 == seen::ABORT_ON_LINGER);
const _: () = assert!(Counter::TCPAbortOnMemory as u32 == seen::ABORT_ON_MEMORY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_under_their_names_wherever_they_stand() {
        let snmp =
            "Ip: OutRsts\nIp: 9\nTcp: MaxConn AttemptFails OutRsts\nTcp: -1 3 5\nUdp: OutRsts\nUdp: 8\n";
        let netstat = "TcpExt: ListenDrops New TCPAbortOnData\nTcpExt: 7 1 18446744073709551615\n";
        let mib = Mib::parse(snmp, netstat).expect("TCP");
        assert_eq!((mib.get(Counter::AttemptFails), mib.get(Counter::OutRsts)), (3, 5));
        assert_eq!((mib.get(Counter::ListenDrops), mib.get(Counter::TCPAbortOnData)), (7, u64::MAX));
        assert_eq!(mib.get(Counter::EstabResets), 0);
    }

    #[test]
    fn what_is_torn_or_foreign_gives_nothing() {
        for text in ["", "Tcp: OutRsts\n", "Tcp: OutRsts\nUdp: 5\n", "\0\0", "TcpExt: OutRsts\nTcpExt: 5\n"] {
            assert_eq!(Mib::parse(text, ""), None, "{text}");
        }
        let odd = Mib::parse("Tcp: OutRsts EstabResets\nTcp: x\n", "TcpExt: TCPAbortOnData\n");
        assert_eq!(odd, Some(Mib::default()));
    }

    #[test]
    fn drops_are_what_the_counters_rose_by() {
        let mut before = Mib::default();
        before.0[Counter::ListenOverflows as usize] = 5;
        before.0[Counter::ListenDrops as usize] = 9;
        assert_eq!(QueueDrops::between(1, (10, &before), (20, &before)), None);
        let mut now = before;
        now.0[Counter::ListenOverflows as usize] = 8;
        now.0[Counter::ListenDrops as usize] = 13;
        let drops = QueueDrops::between(1, (10, &before), (20, &now)).expect("a rise");
        let expected =
            QueueDrops { since_ns: 10, ktime_ns: 20, netns: 1, overflows: 3, drops: 4, handshakes_full: 0 };
        assert_eq!(drops, expected);
        assert_eq!(QueueDrops::between(1, (20, &now), (30, &before)), None, "another namespace's by now");
        let both = drops.and(QueueDrops { since_ns: 20, ktime_ns: 30, ..drops });
        assert_eq!((both.since_ns, both.ktime_ns, both.overflows, both.drops), (10, 30, 6, 8));
    }

    #[test]
    fn this_kernel_has_every_counter() {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/net/{name}")).expect("/proc");
        let texts = [read("snmp"), read("netstat")].concat();
        for counter in Counter::ALL {
            assert!(texts.split_whitespace().any(|word| word == counter.name()), "{}", counter.name());
        }
    }
}
