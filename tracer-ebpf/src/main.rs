//! rstrace's kernel programs. One file for each family of hooks:
//!
//! * `state`: `inet_sock_set_state`, where every connection begins and ends (`ends`);
//! * `resets`: `tcp_receive_reset`, `tcp_send_reset`, `inet_sk_error_report`;
//! * `notes`: what became of a socket's segments elsewhere on this host (RSTs that no connection sends, dropped packets);
//! * `fins`: `tcp_fin`, where the kernel takes fentry or kprobes;
//! * `reads`: `tcp_rcv_space_adjust`, which tells an answered request from one that waits;
//! * `ages`: what reads and ends teach of an upstream: slow answers, idle closes;
//! * `alike`: connects that fail like thousands of others;
//! * `audit`: what the kernel counts itself, counted once more, and which namespaces there are;
//! * `processes`: exits, fatal signals, the OOM killer;
//! * `dns`: queries to resolvers and the headers of their answers (group `dns`);
//! * `syscalls`, and with it `connects` and `unix`: the groups `connect-errors` and `unix`;
//! * `snapshot`: what existed before the start.
//!
//! Shared by them: `globals`, `maps`, `kread` (direct loads at offsets from BTF), `marks` (what is remembered of a socket),
//! `upstreams` (what is counted of each),
//! `emit` (the only writer of the ring),
//! `shares` (who may use what is left of it),
//! `user_message` (what a system call sends or receives), `files` (descriptors).
//! A host build of this package is empty: the programs exist for the BPF target only.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", expect(internal_features, reason = "atomic addition, see maps::add"))]

#[cfg(target_arch = "bpf")]
mod ages;
#[cfg(target_arch = "bpf")]
mod alike;
#[cfg(target_arch = "bpf")]
mod audit;
#[cfg(target_arch = "bpf")]
mod connects;
#[cfg(target_arch = "bpf")]
mod dns;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod ends;
#[cfg(target_arch = "bpf")]
mod files;
#[cfg(target_arch = "bpf")]
mod fins;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod kread;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod marks;
#[cfg(target_arch = "bpf")]
mod notes;
#[cfg(target_arch = "bpf")]
mod processes;
#[cfg(target_arch = "bpf")]
mod reads;
#[cfg(target_arch = "bpf")]
mod resets;
#[cfg(target_arch = "bpf")]
mod shares;
#[cfg(target_arch = "bpf")]
mod snapshot;
#[cfg(target_arch = "bpf")]
mod state;
#[cfg(target_arch = "bpf")]
mod syscalls;
#[cfg(target_arch = "bpf")]
mod unix;
#[cfg(target_arch = "bpf")]
mod upstreams;
#[cfg(target_arch = "bpf")]
mod user_message;

/// Some helpers are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier refuses a program that could reach this.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
