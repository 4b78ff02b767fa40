//! The hooks: what each is for, what is lost without it, and the ways to attach it, best first. Selection is
//! pure; `loader` does what is selected here.

use super::groups::{Group, Groups};
use super::offsets::Layout;

/// One way to attach a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// BTF tracepoint.
    TpBtf,
    Fentry,
    Fexit,
    Kprobe,
}

impl Way {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
        }
    }
}

/// A program and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the program in the object.
    pub program: &'static str,
    pub way: Way,
    /// Tracepoint or kernel function.
    pub target: &'static str,
}

/// A hook, whatever the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub name: &'static str,
    /// Loaded if one of these is asked for.
    pub groups: &'static [Group],
    /// Without it nothing can be said.
    pub required: bool,
    pub gives: &'static str,
    /// What is lost without it.
    pub without: &'static str,
    pub attachments: &'static [Attachment],
}

impl Hook {
    /// Whether it belongs to what was asked for; what does not is not even loaded.
    #[must_use]
    pub fn is_asked_for(&self, groups: Groups) -> bool {
        self.groups.iter().any(|group| groups.has(*group))
    }
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStatus {
    pub hook: &'static Hook,
    pub attached: Option<Way>,
    /// Why the better ways, or all of them, failed.
    pub reasons: Vec<String>,
}

const fn tp(program: &'static str, target: &'static str) -> Attachment {
    Attachment { program, way: Way::TpBtf, target }
}

const fn fentry(program: &'static str, target: &'static str) -> Attachment {
    Attachment { program, way: Way::Fentry, target }
}

const fn fexit(program: &'static str, target: &'static str) -> Attachment {
    Attachment { program, way: Way::Fexit, target }
}

const CORE: &[Group] = &[Group::Core];
const DNS: &[Group] = &[Group::Dns];

/// Every hook, in the order in which it is attached. The change of state comes after those that leave hints for
/// it; `tcp_rcv_space_adjust` after the snapshot (see `loader`), so that a reader of an old connection is not
/// mistaken for one that accepts.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "tcp_receive_reset",
        groups: CORE,
        required: true,
        gives: "RSTs received",
        without: "a RST cannot be told from an ICMP error",
        attachments: &[tp("tcp_receive_reset", "tcp_receive_reset")],
    },
    Hook {
        name: "inet_sk_error_report",
        groups: CORE,
        required: false,
        gives: "what ICMP says of a connect",
        without: "a connect that ICMP rejects at once looks as if it had been given up",
        attachments: &[tp("inet_sk_error_report", "inet_sk_error_report")],
    },
    Hook {
        name: "tcp_send_reset",
        groups: CORE,
        required: false,
        gives: "RSTs sent, and why",
        without: "rst_reason stays null, and RSTs sent are not counted",
        attachments: &[tp("tcp_send_reset", "tcp_send_reset")],
    },
    Hook {
        name: "refused_syn",
        groups: CORE,
        required: false,
        gives: "which namespace of this host refused a SYN (IPv4; both families since Linux 6.10)",
        without: "no_listener cannot be told from a packet filter's RST",
        attachments: &[tp("refused_syn", "tcp_send_reset"), fentry("refused_syn_v4", "tcp_v4_send_reset")],
    },
    Hook {
        name: "refused_syn_v6",
        groups: CORE,
        required: false,
        gives: "the same for IPv6, before Linux 6.10",
        without: "no_listener over IPv6 cannot be told from a packet filter's RST",
        attachments: &[fentry("refused_syn_v6", "tcp_v6_send_reset")],
    },
    Hook {
        name: "packet_dropped",
        groups: CORE,
        required: false,
        gives: "segments that a packet filter, a full accept queue (since Linux 6.13) or a missing neighbour dropped",
        without: "a packet filter's reject or drop cannot be told from what it looks like",
        attachments: &[tp("packet_dropped", "kfree_skb")],
    },
    Hook {
        name: "tcp_fin",
        groups: CORE,
        required: false,
        gives: "FINs received, seen as such",
        without: "the state change says the same",
        attachments: &[
            fentry("tcp_fin_fentry", "tcp_fin"),
            Attachment { program: "tcp_fin_kprobe", way: Way::Kprobe, target: "tcp_fin" },
        ],
    },
    Hook {
        name: "inet_sock_set_state",
        groups: CORE,
        required: true,
        gives: "connections, listeners, their ends",
        without: "nothing can be said",
        attachments: &[tp("inet_sock_set_state", "inet_sock_set_state")],
    },
    Hook {
        name: "tcp_rcv_space_adjust",
        groups: CORE,
        required: true,
        gives: "answered or still waiting",
        without: "a lost request cannot be told from a healthy close",
        attachments: &[tp("tcp_rcv_space_adjust", "tcp_rcv_space_adjust")],
    },
    Hook {
        name: "sched_process_exit",
        groups: CORE,
        required: false,
        gives: "ends of processes that own sockets",
        without: "a process that closed its sockets before it ended is not named",
        attachments: &[tp("sched_process_exit", "sched_process_exit")],
    },
    Hook {
        name: "signal_generate",
        groups: CORE,
        required: false,
        gives: "who sent the signal",
        without: "killed_by stays null",
        attachments: &[tp("signal_generate", "signal_generate")],
    },
    Hook {
        name: "mark_victim",
        groups: CORE,
        required: false,
        gives: "the OOM killer's choice",
        without: "the dying process's own mark says the same",
        attachments: &[tp("mark_victim", "mark_victim")],
    },
    Hook {
        name: "dns_received",
        groups: DNS,
        required: false,
        gives: "headers of their answers (IPv4; both families since Linux 6.3)",
        without: "no query is looked at, since all would seem unanswered",
        attachments: &[tp("dns_received", "sock_recv_length"), fexit("dns_received_v4", "udp_recvmsg")],
    },
    Hook {
        name: "dns_received_v6",
        groups: DNS,
        required: false,
        gives: "headers of answers over IPv6, before Linux 6.3",
        without: "no query over IPv6 is looked at",
        attachments: &[fexit("dns_received_v6", "udpv6_recvmsg")],
    },
    Hook {
        name: "dns_sent",
        groups: DNS,
        required: false,
        gives: "queries to resolvers (IPv4; both families since Linux 6.3)",
        without: "dns_failure is never given",
        attachments: &[tp("dns_sent", "sock_send_length"), fexit("dns_sent_v4", "udp_sendmsg")],
    },
    Hook {
        name: "dns_sent_v6",
        groups: DNS,
        required: false,
        gives: "queries over IPv6, before Linux 6.3",
        without: "resolvers over IPv6 are not seen",
        attachments: &[fexit("dns_sent_v6", "udpv6_sendmsg")],
    },
    Hook {
        name: "sys_exit",
        groups: &[Group::ConnectErrors, Group::Unix],
        required: false,
        gives: "connects that failed before a SYN was sent, or to a Unix socket",
        without: "no route, a local filter and a missing Unix socket are not told",
        attachments: &[tp("connect_exit", "sys_exit")],
    },
    Hook {
        name: "sys_enter",
        groups: &[Group::Unix],
        required: false,
        gives: "Unix sockets that their own process closes",
        without: "a gateway that gives up on a Unix socket is not told",
        attachments: &[tp("close_enter", "sys_enter")],
    },
    Hook {
        name: "unix_sent",
        groups: &[Group::Unix],
        required: false,
        gives: "requests sent on Unix sockets (since Linux 6.3)",
        without: "of Unix sockets only failed connects are told",
        attachments: &[tp("unix_sent", "sock_send_length")],
    },
    Hook {
        name: "unix_received",
        groups: &[Group::Unix],
        required: false,
        gives: "answers and ends read from Unix sockets (since Linux 6.3)",
        without: "of Unix sockets only failed connects are told",
        attachments: &[tp("unix_received", "sock_recv_length")],
    },
];

/// The hook without which this one would mislead: a query whose answer cannot be seen seems unanswered.
#[must_use]
pub fn needs(hook: &Hook) -> Option<&'static str> {
    match hook.name {
        "dns_sent" => Some("dns_received"),
        "dns_sent_v6" => Some("dns_received_v6"),
        _ => None,
    }
}

/// The ways worth trying on this kernel, best first; None: this kernel needs no such hook.
///
/// `tcp_fin` may be restricted to one way (`RSTRACE_TCP_FIN=fentry|kprobe|state`), so that tests can compare.
#[must_use]
pub fn ways(hook: &Hook, layout: &Layout, tcp_fin: Option<&str>) -> Option<Vec<Attachment>> {
    let both_families = layout.has_reset_reason();
    if hook.name == "refused_syn_v6" && both_families {
        return None;
    }
    let every_socket = layout.tracepoints.contains_key("sock_recv_length");
    if every_socket && matches!(hook.name, "dns_sent_v6" | "dns_received_v6") {
        return None;
    }
    let fits = |a: &&Attachment| match (hook.name, a.way) {
        ("dns_sent" | "dns_received", way) => (way == Way::TpBtf) == every_socket,
        ("refused_syn", Way::TpBtf) => both_families,
        ("refused_syn", _) => !both_families,
        // Before Linux 5.17 it did not say why.
        ("packet_dropped", _) => layout.tracepoints.get("kfree_skb").is_some_and(|args| *args >= 3),
        // Before Linux 6.9 (and its backports) the argument was a pid, not a task.
        ("mark_victim", _) => layout.tracepoints.get("mark_victim") == Some(&2),
        ("tcp_fin", way) => tcp_fin.is_none_or(|only| only == way.name()),
        _ => true,
    };
    Some(hook.attachments.iter().filter(fits).copied().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracer_ebpf::offsets::Offsets;

    use super::*;

    fn layout(reset_args: usize, victim_args: usize) -> Layout {
        Layout {
            offsets: Offsets::UNSET,
            reset_reasons: BTreeMap::new(),
            drop_reasons: [0; 3],
            tracepoints: BTreeMap::from([("tcp_send_reset", reset_args), ("mark_victim", victim_args)]),
            functions: vec![],
            missing: vec![],
        }
    }

    fn programs(name: &str, layout: &Layout, tcp_fin: Option<&str>) -> Option<Vec<&'static str>> {
        let hook = HOOKS.iter().find(|h| h.name == name)?;
        ways(hook, layout, tcp_fin).map(|w| w.iter().map(|a| a.program).collect())
    }

    #[test]
    fn refusals_come_from_the_tracepoint_where_it_speaks_without_a_socket() {
        assert_eq!(programs("refused_syn", &layout(3, 2), None), Some(vec!["refused_syn"]));
        assert_eq!(programs("refused_syn", &layout(2, 2), None), Some(vec!["refused_syn_v4"]));
    }

    #[test]
    fn the_ipv6_fallback_is_needed_only_before_6_10() {
        assert_eq!(programs("refused_syn_v6", &layout(3, 2), None), None);
        assert_eq!(programs("refused_syn_v6", &layout(2, 2), None), Some(vec!["refused_syn_v6"]));
    }

    #[test]
    fn a_victim_that_is_only_a_pid_is_not_attached() {
        assert_eq!(programs("mark_victim", &layout(2, 1), None), Some(vec![]));
        assert_eq!(programs("mark_victim", &layout(2, 2), None), Some(vec!["mark_victim"]));
    }

    #[test]
    fn resolvers_are_heard_by_one_hook_where_every_socket_has_one() {
        let old = layout(2, 2);
        let mut new = layout(3, 2);
        new.tracepoints.extend([("sock_send_length", 3), ("sock_recv_length", 3)]);
        for (hook, v4, v6) in [
            ("dns_sent", "dns_sent_v4", "dns_sent_v6"),
            ("dns_received", "dns_received_v4", "dns_received_v6"),
        ] {
            assert_eq!(programs(hook, &new, None), Some(vec![hook]));
            assert_eq!(programs(v6, &new, None), None);
            assert_eq!(programs(hook, &old, None), Some(vec![v4]));
            assert_eq!(programs(v6, &old, None), Some(vec![v6]));
        }
    }

    #[test]
    fn what_a_hook_needs_comes_before_it() {
        for (at, hook) in HOOKS.iter().enumerate() {
            if let Some(needed) = needs(hook) {
                assert!(HOOKS[..at].iter().any(|before| before.name == needed), "{}", hook.name);
            }
        }
    }

    #[test]
    fn tcp_fin_can_be_restricted_to_one_way() {
        let all = Some(vec!["tcp_fin_fentry", "tcp_fin_kprobe"]);
        assert_eq!(programs("tcp_fin", &layout(3, 2), None), all);
        assert_eq!(programs("tcp_fin", &layout(3, 2), Some("kprobe")), Some(vec!["tcp_fin_kprobe"]));
        assert_eq!(programs("tcp_fin", &layout(3, 2), Some("state")), Some(vec![]));
    }
}
