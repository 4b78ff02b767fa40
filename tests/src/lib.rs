//! The harness behind the integration tests: a real nginx as the gateway, a real server process
//! behind it, each test in network namespaces of its own, and `rstrace` watching.
//!
//! It injects faults and reads what `rstrace` says of them through the same doors an operator
//! uses (JSON lines, `/metrics`). It links nothing of the agent and knows none of its internals.

pub mod agent;
pub mod api_server;
pub mod audit;
pub mod bench;
pub mod board;
pub mod bpf;
pub mod bpf_objects;
pub mod capabilities;
pub mod cgroup;
pub mod chromium;
pub mod clickhouse;
pub mod client;
pub mod collector;
pub mod container;
pub mod document;
pub mod expect;
pub mod explained;
pub mod manifests;
pub mod missed;
pub mod netns;
pub mod nginx;
pub mod pids;
pub mod process;
pub mod prometheus;
pub mod receivers;
pub mod scenario;
pub mod scene;
pub mod scrape;
pub mod seccomp;
pub mod server;
pub mod serving;
pub mod slots;
pub mod story;
pub mod systemd;
pub mod terminal;
pub mod unit;

/// Tests of one story each, over every way in which the gateway reaches its upstream:
/// `over_every_path!(Host: process_crashed)` makes `process_crashed::veth_ipv4` and three siblings.
#[macro_export]
macro_rules! over_every_path {
    ($watcher:ident: $($story:ident),+ $(,)?) => {$(
        mod $story {
            $crate::over_every_path!(@test $watcher $story veth_ipv4 Veth V4);
            $crate::over_every_path!(@test $watcher $story veth_ipv6 Veth V6);
            $crate::over_every_path!(@test $watcher $story loopback_ipv4 Loopback V4);
            $crate::over_every_path!(@test $watcher $story loopback_ipv6 Loopback V6);
        }
    )+};
    (@test $watcher:ident $story:ident $name:ident $link:ident $family:ident) => {
        #[test]
        fn $name() -> anyhow::Result<()> {
            use $crate::{netns::{Family, Link}, scene::Watcher};
            $crate::story::$story(Link::$link, Family::$family, Watcher::$watcher)
        }
    };
}

/// The same over the veth pair alone, where the two ends are as two machines.
#[macro_export]
macro_rules! over_veth {
    ($watcher:ident: $($story:ident),+ $(,)?) => {$(
        mod $story {
            $crate::over_every_path!(@test $watcher $story veth_ipv4 Veth V4);
            $crate::over_every_path!(@test $watcher $story veth_ipv6 Veth V6);
        }
    )+};
}
