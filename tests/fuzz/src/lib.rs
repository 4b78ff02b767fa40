//! What rstrace reads and did not write itself, each as a function that takes any bytes. None may panic, hang or grow
//! without bound; some also check what must hold of whatever was read.

mod core;
mod records;

use std::io::Cursor;

use tracer_agent::enrich::container::Container;
use tracer_agent::enrich::gateways::{envoy_admin_address, haproxy, nginx, parse_envoy};
use tracer_agent::kernel::btf::Btf;
use tracer_agent::output::Line;
use tracer_agent::output::filter::{Filter, GatewayFilter, UpstreamFilter};
use tracer_agent::recording::Replay;

/// Something that is fed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its folder in `tests/fixtures/fuzz`.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "records", run: records::run },
    Target { name: "core", run: core::run },
    Target { name: "btf", run: btf },
    Target { name: "cgroup", run: cgroup },
    Target { name: "socket", run: socket },
    Target { name: "recording", run: recording },
    Target { name: "filter", run: filter },
    Target { name: "gateway", run: gateway },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// The kernel's description of its types: everything that is asked of it at start-up.
fn btf(input: &[u8]) {
    let Ok(btf) = Btf::parse(input) else { return };
    for (name, path) in [("sock", "sk_err"), ("sock", "__sk_common.skc_daddr"), ("a", "b"), ("s", "m.n")] {
        let _ = btf.member_offset(name, path);
    }
    let _ = btf.enum_values("sk_rst_reason");
    let _ = btf.enum_values("e");
    let _ = btf.tracepoint_args("tcp_send_reset");
    let _ = btf.tracepoint_args("t");
    let _ = btf.has_function("tcp_fin");
}

/// The path of a cgroup, which whoever made it has named.
fn cgroup(input: &[u8]) {
    let Ok(path) = std::str::from_utf8(input) else { return };
    if let Some(container) = Container::from_cgroup(path) {
        assert!(path.contains(&container.id), "a container that is not in the path: {}", container.id);
        assert!(container.id.starts_with(container.short_id()));
    }
}

/// What comes over the agent's socket, in either direction.
fn socket(input: &[u8]) {
    let _ = serde_json::from_slice::<Filter>(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(Line::Verdict(view)) = Line::parse(text) {
        let json = view.to_json();
        assert!(!json.contains('\n'), "a line of two lines: {json}");
        assert!(Line::parse(&json).is_ok(), "not to be read back: {json}");
    }
}

/// A recording, as somebody sends it with a question.
fn recording(input: &[u8]) {
    let Ok(mut replay) = Replay::new(Cursor::new(input), "fuzz") else { return };
    while let Ok(Some((_, view))) = replay.next_verdict() {
        assert!(Line::parse(&view.to_json()).is_ok());
    }
    let _ = replay.remarks();
}

/// Words of the command line. What is understood is spelled so that it is understood again.
fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(filter) = text.parse::<UpstreamFilter>() {
        assert_eq!(filter.to_string().parse::<UpstreamFilter>().ok(), Some(filter), "{text:?}");
    }
    if let Ok(filter) = text.parse::<GatewayFilter>() {
        let _ = filter.to_string();
    }
}

/// The configuration of a gateway, which whoever may change it has written.
fn gateway(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines = text.split('\n').count();
    let (parsed, fault) = nginx::parse(&text, "nginx.conf", Some("outer"));
    assert!(fault.is_none_or(|fault| fault.line as usize <= lines), "a fault beyond the last line");
    let (own, _) = nginx::parse(&text, "nginx.conf", None);
    assert!(own.servers.len() <= parsed.servers.len(), "fewer servers within an upstream block");
    for server in parsed.servers.into_iter().chain(haproxy::parse(&text, "haproxy.cfg")) {
        assert!(server.registration.line.is_some_and(|line| line as usize <= lines), "{server:?}");
        assert!(!server.address.targets().is_empty());
    }
    let _ = envoy_admin_address(&text);
    let _ = parse_envoy(input, "http://127.0.0.1:9901/clusters");
}
