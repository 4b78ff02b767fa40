//! The running kernel's own BTF. Where there is none, these tests say so and check nothing.

use std::fs;
use std::io::ErrorKind;

use super::super::{Btf, BtfError};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

fn with_vmlinux(check: impl FnOnce(&Btf<'_>)) {
    match fs::read(VMLINUX) {
        Ok(bytes) => check(&Btf::parse(&bytes).unwrap()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: this kernel has no {VMLINUX}");
        }
        Err(error) => panic!("{VMLINUX}: {error}"),
    }
}

#[test]
fn the_head_of_a_socket_lies_where_it_has_been_since_5_10() {
    with_vmlinux(|btf| {
        for (member, offset) in [
            ("skc_daddr", 0),
            ("skc_rcv_saddr", 4),
            ("skc_hash", 8),
            ("skc_dport", 12),
            ("skc_num", 14),
            ("skc_family", 16),
            ("skc_state", 18),
            ("skc_bound_dev_if", 20),
            ("skc_net.net", 48),
            ("skc_v6_daddr", 56),
            ("skc_v6_rcv_saddr", 72),
            ("skc_cookie", 88),
        ] {
            assert_eq!(btf.member_offset("sock_common", member), Ok(offset), "{member}");
            let path = format!("__sk_common.{member}");
            assert_eq!(btf.member_offset("sock", &path), Ok(offset), "{path}");
        }
    });
}

#[test]
fn members_of_larger_structs_lie_within_them_and_apart() {
    with_vmlinux(|btf| {
        for (type_name, limit, paths) in [
            ("sock", 2048, &["sk_lock.owned", "sk_err", "sk_socket", "sk_protocol", "sk_bpf_storage"][..]),
            ("inet_sock", 4096, &["inet_sport", "inet_saddr"]),
            (
                "inet_connection_sock",
                4096,
                &["icsk_ack.lrcvtime", "icsk_retransmits", "icsk_accept_queue.qlen"],
            ),
            (
                "tcp_sock",
                8192,
                &["snd_una", "write_seq", "rcv_nxt", "copied_seq", "lsndtime", "total_retrans"],
            ),
            (
                "task_struct",
                65_536,
                &["tgid", "pid", "flags", "exit_code", "comm", "start_boottime", "signal"],
            ),
            ("signal_struct", 8192, &["oom_mm", "group_exit_code"]),
            ("sk_buff", 1024, &["network_header", "transport_header", "head", "dev"]),
            ("kernel_siginfo", 256, &["si_signo", "si_code", "_sifields"]),
        ] {
            let mut offsets: Vec<u32> =
                paths.iter().map(|path| btf.member_offset(type_name, path).unwrap()).collect();
            offsets.sort_unstable();
            offsets.dedup();
            assert_eq!(offsets.len(), paths.len(), "{type_name}: {offsets:?}");
            assert!(offsets.iter().all(|&offset| offset < limit), "{type_name}: {offsets:?}");
        }
        let error = btf.member_offset("sock_common", "skc_reuseport").unwrap_err();
        assert!(matches!(error, BtfError::BitField { .. }), "{error}");
    });
}

#[test]
fn reset_reasons_tracepoints_and_functions_have_their_names() {
    with_vmlinux(|btf| {
        // Tracepoints with this many arguments on every kernel that has socket storage in tracing.
        assert_eq!(btf.tracepoint_args("inet_sock_set_state"), Some(3));
        assert_eq!(btf.tracepoint_args("tcp_receive_reset"), Some(1));
        assert_eq!(btf.tracepoint_args("no_such_tracepoint"), None);
        // `enum sk_rst_reason` and the third argument came together, in 6.10.
        let reasons = btf.enum_values("sk_rst_reason");
        let arguments = if reasons.is_some() { 3 } else { 2 };
        assert_eq!(btf.tracepoint_args("tcp_send_reset"), Some(arguments));
        if let Some(reasons) = reasons {
            assert_eq!(reasons[0], ("SK_RST_REASON_NOT_SPECIFIED".to_owned(), 0));
            assert!(reasons.iter().any(|(name, _)| name == "SK_RST_REASON_NO_SOCKET"));
        }
        assert!(btf.has_function("tcp_set_state"));
        assert!(!btf.has_function("tcp_set_stat"));
        assert!(!btf.has_function("sock_common"));
    });
}
