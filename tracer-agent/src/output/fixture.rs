//! A verdict for the tests of this folder: the one that the contract shows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Names, Origin, VerdictView};
use crate::enrich::container::Container;
use crate::enrich::endpoint::Endpoint;
use crate::enrich::gateways::{Proxy, Registration, State};
use crate::enrich::pods::Pod;
use crate::event::{Exit, Process, Role, Target};
use crate::verdict::{By, Cause, Confidence, Connection, Culprit, How, Impact, Verdict};

pub const KTIME: u64 = 1_000_000_000;
pub const KNOWN_REASON: u32 = 3;
pub const CONTAINER_CGROUP: u64 = 2;
pub const POD_CGROUP: u64 = 3;

pub const POD_UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";

const UPSTREAM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 3, 7)), 9000);
/// Stands in the configuration of a gateway.
pub const CONFIGURED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 3, 8)), 9000);
/// An address of a Service.
pub const SERVED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 3, 9)), 9000);
const OWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)), 43210);

pub fn origin() -> Origin {
    // The host slept for three seconds before.
    let clock_offset_ns = 1_795_176_187_412_345_678 - 1_000_000_000;
    Origin { host: "gw-1".to_owned(), clock_offset_ns, boot_offset_ns: clock_offset_ns - 3_000_000_000 }
}

pub fn process(tgid: u32, comm: &str) -> Process {
    Process {
        tgid,
        parent_tgid: 1,
        parent_start_boottime: 0,
        start_boottime: 2_003_900_000,
        comm: comm.to_owned(),
        cgroup_id: 1,
        netns: 4_026_532_246,
        exit: None,
        kernel_thread: false,
    }
}

pub fn oom_killed() -> Verdict {
    Verdict {
        ktime_ns: KTIME,
        role: Role::Client,
        netns: 4_026_532_246,
        upstream: Some(Target::Tcp(UPSTREAM)),
        listener: None,
        local: Some(OWN),
        peer: Some(UPSTREAM),
        by: By::Upstream,
        cause: Cause::OomKilled,
        impact: Impact::RequestLost,
        confidence: Confidence::Proven,
        alternatives: Vec::new(),
        how: How::FinReceived,
        rst_reason: None,
        owner: Some(process(812, "nginx")),
        culprit: Some(Culprit {
            process: process(4242, "php-fpm"),
            exit: Some(Exit { code: None, signal: Some(9), oom: true }),
            killed_by: None,
        }),
        connection: Connection {
            cookie: 9182,
            age_ms: Some(5210.2),
            bytes_sent: Some(312),
            bytes_received: 0,
            since_request_ms: Some(1204.1),
            reused: Some(true),
            retransmits: 0,
            srtt_us: Some(180),
            end_seq: Some(3_141_592_653),
        },
        evidence: vec!["php-fpm[4242] ended by SIGKILL".to_owned()],
        summary: "nginx[812] lost a request".to_owned(),
        gateway: true,
        repeated: false,
        owner_listens: vec![],
        shape: None,
        listened_until_ns: None,
    }
}

/// The same of an accepted socket.
pub fn accepted() -> Verdict {
    Verdict { role: Role::Server, upstream: None, listener: Some(OWN), ..oom_killed() }
}

pub fn view(verdict: &Verdict) -> VerdictView {
    VerdictView::new(verdict, &FixedNames, &origin())
}

pub fn shared(verdict: &Verdict) -> Arc<VerdictView> {
    Arc::new(view(verdict))
}

/// A host with one service, one container and one pod.
pub struct FixedNames;

impl Names for FixedNames {
    fn cgroup(&self, process: &Process) -> Option<String> {
        Some(match process.cgroup_id {
            CONTAINER_CGROUP => format!("/docker/{}", "ab".repeat(32)),
            POD_CGROUP => format!("/kubepods/pod{POD_UID}/{}", "cd".repeat(32)),
            _ => "/system.slice/nginx.service".to_owned(),
        })
    }

    fn pod(&self, container: &Container) -> Option<Pod> {
        container.pod_uid.as_ref().map(|uid| Pod {
            namespace: Some("shop".to_owned()),
            name: Some("api-66b6c48dd5-gz5nx".to_owned()),
            uid: uid.clone(),
            container: Some("php-fpm".to_owned()),
            workload: Some("deployment/api".to_owned()),
        })
    }

    fn reset_reason(&self, number: u32) -> Option<String> {
        (number == KNOWN_REASON).then(|| "NO_SOCKET".to_owned())
    }

    fn scope(&self, _netns: u32) -> String {
        "host".to_owned()
    }

    fn endpoint(&self, target: &Target, _local: Option<SocketAddr>) -> Option<Endpoint> {
        let served = |pod: Option<&str>| {
            Some(Endpoint {
                service: Some("shop/api".to_owned()),
                pod: pod.map(str::to_owned),
                address: None,
            })
        };
        match target {
            Target::Tcp(SERVED) => served(Some("shop/api-66b6c48dd5-gz5nx")),
            Target::Tcp(CONFIGURED) => served(None),
            _ => None,
        }
    }

    fn registration(&self, target: &Target, _netns: u32, _owner: Option<&Process>) -> Option<Registration> {
        (*target == Target::Tcp(CONFIGURED)).then(|| Registration {
            gateway: Proxy::Nginx,
            name: Some("api".to_owned()),
            weight: Some(5),
            state: State::Active,
            file: "/etc/nginx/conf.d/api.conf".to_owned(),
            line: Some(12),
        })
    }
}
