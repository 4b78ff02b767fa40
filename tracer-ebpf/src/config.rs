//! What the agent tells the programs: once, before they are loaded (frozen globals), or at any time (a map).

/// Value of a frozen offset whose member the running kernel does not have.
pub const MISSING: u32 = u32::MAX;

/// Bits of the single entry of the map `CONFIG`, which the agent may change while the programs run.
pub mod flag {
    /// Queue the ends of healthy connections too: somebody watches with `--all`.
    pub const ALL_ENDS: u32 = 1 << 0;
    /// The snapshot's second pass: the listeners are known, mark the sockets that connected.
    pub const SNAPSHOT_MARK: u32 = 1 << 1;
    /// Every hook is attached; what was read before may not have been seen.
    pub const ATTACHED: u32 = 1 << 2;
    /// The snapshot reports the sockets of the map `ASKED` only.
    pub const SNAPSHOT_ASKED: u32 = 1 << 3;
}

/// Bits of the frozen global `GROUPS`: the optional groups of hooks that were asked for. `core` needs none.
pub mod group {
    pub const CONNECT_ERRORS: u32 = 1 << 0;
    pub const UNIX: u32 = 1 << 1;
    pub const DNS: u32 = 1 << 2;
}

/// Where resolvers listen: port 53 (RFC 1035, 4.2.1), Consul's 8600, and what is customary where 53 is taken. What is
/// sent to other ports is not looked at.
#[must_use]
pub const fn is_resolver_port(port: u16) -> bool {
    matches!(port, 53 | 1053 | 5300 | 5353 | 8053 | 8600 | 10053)
}

/// Sizes of the kernel maps. Each is a bound that the agent shows on /metrics.
pub mod limit {
    /// Upstreams counted apart; the next ones are counted under the all-zero key.
    pub const UPSTREAMS: usize = 4096;
    /// Above this many, only upstreams that accepted a connection find a place.
    pub const SILENT_UPSTREAMS: usize = UPSTREAMS / 4 * 3;
    /// Places for marks of connections that are open at the same time; the next ones get socket storage. A power of two.
    pub const SLOTS: usize = 16384;
    /// Processes remembered as owners of sockets.
    pub const OWNERS: usize = 8192;
    /// Notes that wait for the socket that they explain, in each of two maps. An LRU map hands out free entries
    /// to CPUs in batches of 128, so it has to be much larger than what is in flight.
    pub const NOTES: usize = 8192;
    /// Listening (netns, port) pairs, used while the snapshot tells accepted sockets from connected ones.
    pub const LISTEN_PORTS: usize = 16384;
    /// Sockets that the agent asks for at once.
    pub const ASKED: usize = 256;
    /// Unix sockets that connected (group `unix`).
    pub const UNIX_SOCKETS: usize = 8192;
    /// Network namespaces whose events are held against the kernel's own counters.
    pub const NAMESPACES: usize = 1024;
    /// Bytes of the ring buffer: room for some 2,800 ends of connections while the agent is not scheduled.
    pub const RING_BYTES: usize = 1 << 20;
    /// Ways in which the connects of an upstream fail, more often than each could be told; the next ones are told each.
    pub const ALIKE: usize = 1024;
    /// Connects of one upstream that fail in a second and are told each.
    pub const TOLD_EACH: u32 = 2000;
    /// Places in which it is counted who queued how much: a power of two.
    pub const SHARES: usize = 4096;
}
