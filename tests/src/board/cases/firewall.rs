//! Packet filters: nftables and iptables, at the upstream, at the gateway itself, and on the way.

use std::time::Duration;

use anyhow::Result;

use crate::board::{Case, Stage};
use crate::netns::{Family, Link};
use crate::nginx::GatewayOptions;

pub const CASES: &[Case] = &[
    Case::new("nft_input_drop", |stage| at_connect(stage, Nft, "input", "drop", 504)),
    Case::new("nft_input_reset", |stage| at_connect(stage, Nft, "input", "reject with tcp reset", 502)),
    Case::new("nft_input_port_unreachable", |stage| {
        at_connect(stage, Nft, "input", "reject with icmp type port-unreachable", 502)
    }),
    Case::new("nft_input_admin_prohibited", |stage| {
        at_connect(stage, Nft, "input", "reject with icmp type admin-prohibited", 502)
    }),
    Case::new("nft_input_host_unreachable", |stage| {
        at_connect(stage, Nft, "input", "reject with icmp type host-unreachable", 502)
    }),
    Case {
        family: Family::V6,
        ..Case::new("nft_input_reset_ipv6", |stage| {
            at_connect(stage, Nft, "input", "reject with tcp reset", 502)
        })
    },
    Case {
        family: Family::V6,
        ..Case::new("nft_input_drop_ipv6", |stage| at_connect(stage, Nft, "input", "drop", 504))
    },
    Case::new("nft_output_drop", |stage| at_connect(stage, Nft, "output", "drop", 504)),
    Case::new("nft_output_reset", |stage| at_connect(stage, Nft, "output", "reject with tcp reset", 502)),
    Case::new("nft_forward_drop", |stage| at_connect(stage, Nft, "forward", "drop", 504)).over(Link::Routed),
    Case::new("nft_forward_reset", |stage| at_connect(stage, Nft, "forward", "reject with tcp reset", 502))
        .over(Link::Routed),
    Case::new("nft_forward_admin_prohibited", |stage| {
        at_connect(stage, Nft, "forward", "reject with icmp type admin-prohibited", 502)
    })
    .over(Link::Routed),
    Case::new("iptables_input_drop", |stage| at_connect(stage, Iptables, "INPUT", "DROP", 504)),
    Case::new("iptables_input_reset", |stage| at_connect(stage, Iptables, "INPUT", "tcp-reset", 502)),
    Case::new("iptables_input_port_unreachable", |stage| {
        at_connect(stage, Iptables, "INPUT", "icmp-port-unreachable", 502)
    }),
    Case::new("iptables_input_admin_prohibited", |stage| {
        at_connect(stage, Iptables, "INPUT", "icmp-admin-prohibited", 502)
    }),
    Case::new("iptables_output_drop", |stage| at_connect(stage, Iptables, "OUTPUT", "DROP", 504)),
    Case::new("iptables_output_reset", |stage| at_connect(stage, Iptables, "OUTPUT", "tcp-reset", 502)),
    Case::new("iptables_forward_drop", |stage| at_connect(stage, Iptables, "FORWARD", "DROP", 504))
        .over(Link::Routed),
    Case::new("iptables_forward_reset", |stage| at_connect(stage, Iptables, "FORWARD", "tcp-reset", 502))
        .over(Link::Routed),
    Case::new("answer_dropped", |stage| {
        stage.start_fault_server(&[])?;
        let rule = format!("tcp sport {} drop", stage.upstream().port());
        nft(stage, "output", &rule, Side::Upstream)?;
        start_gateway(stage)?;
        stage.demand("/ok", 504)
    }),
    Case::new("reset_mid_flow", |stage| mid_flow(stage, "reject with tcp reset", 502)),
    Case::new("dropped_mid_flow", |stage| mid_flow(stage, "drop", 504)),
];

use Tool::{Iptables, Nft};

#[derive(Clone, Copy)]
enum Tool {
    Nft,
    Iptables,
}

#[derive(Clone, Copy)]
enum Side {
    Gateway,
    Router,
    Upstream,
}

/// The server listens, and the filter keeps the gateway from it.
fn at_connect(stage: &mut Stage, tool: Tool, hook: &str, verdict: &str, status: u16) -> Result<()> {
    stage.start_fault_server(&[])?;
    let port = stage.upstream().port().to_string();
    let side = match hook.to_ascii_lowercase().as_str() {
        "output" => Side::Gateway,
        "forward" => Side::Router,
        _ => Side::Upstream,
    };
    match tool {
        Nft => nft(stage, hook, &format!("tcp dport {port} {verdict}"), side)?,
        Iptables => {
            let mut words = vec!["iptables", "-w", "-A", hook, "-p", "tcp", "--dport", &port, "-j"];
            match verdict {
                "DROP" => words.push("DROP"),
                with => words.extend(["REJECT", "--reject-with", with]),
            }
            run_at(stage, side, &words)?;
        }
    }
    start_gateway(stage)?;
    stage.demand("/ok", status)
}

/// The filter starts to act on a connection that is established and kept.
fn mid_flow(stage: &mut Stage, verdict: &str, status: u16) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions {
        keepalive: true,
        read_timeout: Duration::from_secs(2),
        ..GatewayOptions::default()
    })?;
    stage.demand("/ok", 200)?;
    let rule = format!("tcp dport {} {verdict}", stage.upstream().port());
    nft(stage, "input", &rule, Side::Upstream)?;
    stage.demand("/ok", status)
}

/// Long enough for the first SYN to be repeated after 1 s.
fn start_gateway(stage: &mut Stage) -> Result<()> {
    stage
        .start_nginx(&GatewayOptions { connect_timeout: Duration::from_secs(2), ..GatewayOptions::default() })
}

fn nft(stage: &Stage, hook: &str, rule: &str, side: Side) -> Result<()> {
    let text = format!(
        "table inet board {{\nchain filtered {{\ntype filter hook {hook} priority 0; policy accept;\n{rule}\n}}\n}}\n"
    );
    let file = stage.write("rules.nft", &text)?;
    run_at(stage, side, &["nft", "-f", &file.to_string_lossy()])
}

fn run_at(stage: &Stage, side: Side, words: &[&str]) -> Result<()> {
    match side {
        Side::Gateway => stage.run_in_gateway(words),
        Side::Router => stage.run_in_router(words),
        Side::Upstream => stage.run_in_upstream(words),
    }
}
