//! Every kernel member that the programs read. This is the one list: the agent resolves each path in the
//! running kernel's BTF and hands the offsets over as the frozen global `OFFSETS`.
//!
//! rustc emits no CO-RE relocations, so the offsets travel as data. The verifier knows the content of a
//! frozen map and folds each offset into a constant, which makes `*(sk + offset)` a direct load.

use crate::config::MISSING;

/// One member: where it is in the kernel's types, and whether the agent can do without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Field of [`Offsets`].
    pub name: &'static str,
    /// Kernel struct.
    pub of: &'static str,
    /// Path of members inside it; anonymous structs and unions are not named.
    pub path: &'static str,
    /// Without it something named is lost, and nothing more.
    pub optional: bool,
}

macro_rules! members {
    ($($name:ident: $of:literal . $path:literal $($optional:ident)?,)+) => {
        /// Byte offsets, [`MISSING`] where the running kernel has no such member.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $(#[doc = concat!("`", $of, ".", $path, "`")] pub $name: u32,)+
        }

        impl Offsets {
            /// What the object file carries before the agent has filled it in.
            pub const UNSET: Self = Self { $($name: MISSING,)+ };

            /// Builds the table from one look-up for each member, in the order of [`MEMBERS`].
            ///
            /// # Errors
            /// The first error of `look_up` ends it.
            pub fn resolve<E>(mut look_up: impl FnMut(&Member) -> Result<u32, E>) -> Result<Self, E> {
                let mut member = MEMBERS.iter();
                Ok(Self {
                    $($name: match member.next() {
                        Some(m) => look_up(m)?,
                        None => MISSING,
                    },)+
                })
            }

            /// The table as the words in which the loader writes it into the object.
            #[must_use]
            pub fn words(&self) -> [u32; MEMBERS.len()] {
                [$(self.$name,)+]
            }
        }

        /// In the order of the fields of [`Offsets`].
        pub const MEMBERS: &[Member] = &[
            $(Member {
                name: stringify!($name),
                of: $of,
                path: $path,
                optional: members!(@optional $($optional)?),
            },)+
        ];
    };
    (@optional) => { false };
    (@optional optional) => { true };
}

members! {
    skc_daddr: "sock_common"."skc_daddr",
    skc_rcv_saddr: "sock_common"."skc_rcv_saddr",
    skc_dport: "sock_common"."skc_dport",
    skc_num: "sock_common"."skc_num",
    skc_family: "sock_common"."skc_family",
    skc_state: "sock_common"."skc_state",
    skc_net: "sock_common"."skc_net.net",
    skc_v6_daddr: "sock_common"."skc_v6_daddr",
    skc_v6_rcv_saddr: "sock_common"."skc_v6_rcv_saddr",
    skc_cookie: "sock_common"."skc_cookie",
    skc_flags: "sock_common"."skc_flags",
    sk_err: "sock"."sk_err",
    sk_err_soft: "sock"."sk_err_soft",
    sk_error_queue_last: "sock"."sk_error_queue.prev" optional,
    sk_shutdown: "sock"."sk_shutdown",
    sk_ack_backlog: "sock"."sk_ack_backlog",
    sk_max_ack_backlog: "sock"."sk_max_ack_backlog",
    sk_lingertime: "sock"."sk_lingertime",
    sk_bpf_storage: "sock"."sk_bpf_storage",
    sk_socket: "sock"."sk_socket",
    sk_protocol: "sock"."sk_protocol",
    sk_lock_owned: "sock"."sk_lock.owned",
    inet_sport: "inet_sock"."inet_sport",
    icsk_retransmits: "inet_connection_sock"."icsk_retransmits",
    lrcvtime: "inet_connection_sock"."icsk_ack.lrcvtime",
    bytes_received: "tcp_sock"."bytes_received",
    bytes_acked: "tcp_sock"."bytes_acked",
    snd_una: "tcp_sock"."snd_una",
    write_seq: "tcp_sock"."write_seq",
    snd_nxt: "tcp_sock"."snd_nxt",
    rcv_nxt: "tcp_sock"."rcv_nxt",
    copied_seq: "tcp_sock"."copied_seq",
    lsndtime: "tcp_sock"."lsndtime",
    rcv_tstamp: "tcp_sock"."rcv_tstamp",
    srtt_us: "tcp_sock"."srtt_us",
    total_retrans: "tcp_sock"."total_retrans",
    net_inum: "net"."ns.inum",
    net_cookie: "net"."net_cookie",
    task_pid: "task_struct"."pid",
    task_tgid: "task_struct"."tgid",
    task_flags: "task_struct"."flags",
    task_exit_code: "task_struct"."exit_code",
    task_real_parent: "task_struct"."real_parent",
    task_group_leader: "task_struct"."group_leader",
    task_signal: "task_struct"."signal",
    task_comm: "task_struct"."comm",
    task_start_boottime: "task_struct"."start_boottime",
    task_nsproxy: "task_struct"."nsproxy",
    task_cgroups: "task_struct"."cgroups",
    nsproxy_net_ns: "nsproxy"."net_ns",
    signal_oom_mm: "signal_struct"."oom_mm" optional,
    signal_live: "signal_struct"."live.counter",
    css_set_dfl_cgrp: "css_set"."dfl_cgrp",
    cgroup_kn: "cgroup"."kn",
    kernfs_node_id: "kernfs_node"."id",
    socket_sk: "socket"."sk",
    skb_head: "sk_buff"."head",
    skb_network_header: "sk_buff"."network_header",
    skb_sk: "sk_buff"."sk",
    skb_cb: "sk_buff"."cb" optional,
    exterr_errno: "sock_exterr_skb"."ee.ee_errno" optional,
    skb_dev: "sk_buff"."dev",
    dev_net: "net_device"."nd_net.net",
    // For the optional groups: a system call's number and arguments, as x86_64 keeps them; files; Unix sockets.
    regs_orig_ax: "pt_regs"."orig_ax" optional,
    regs_di: "pt_regs"."di" optional,
    regs_si: "pt_regs"."si" optional,
    regs_dx: "pt_regs"."dx" optional,
    regs_r8: "pt_regs"."r8" optional,
    task_files: "task_struct"."files" optional,
    files_fdt: "files_struct"."fdt" optional,
    fdt_fd: "fdtable"."fd" optional,
    fdt_max_fds: "fdtable"."max_fds" optional,
    file_inode: "file"."f_inode" optional,
    file_private_data: "file"."private_data" optional,
    file_count: "file"."f_count.counter" optional,
    file_ref: "file"."f_ref.refcnt.counter" optional,
    inode_mode: "inode"."i_mode" optional,
    inode_ino: "inode"."i_ino" optional,
    socket_file: "socket"."file" optional,
    sk_type: "sock"."sk_type" optional,
    sk_peer_pid: "sock"."sk_peer_pid" optional,
    pid_numbers: "pid"."numbers" optional,
    unix_peer: "unix_sock"."peer" optional,
    unix_addr: "unix_sock"."addr" optional,
    unix_address_len: "unix_address"."len" optional,
    unix_address_name: "unix_address"."name" optional,
}

const _: () = assert!(size_of::<Offsets>() == MEMBERS.len() * 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolving_fills_each_member_with_its_own_look_up() {
        let mut next = 0;
        let filled = Offsets::resolve(|member| {
            next += 1;
            if member.optional { Ok::<_, ()>(MISSING) } else { Ok(next) }
        });
        let words = filled.map(|o| o.words());
        assert!(words.is_ok_and(|w| {
            MEMBERS.iter().zip(w).zip(1..).all(|((m, word), n)| word == if m.optional { MISSING } else { n })
        }));
    }

    #[test]
    fn the_first_failing_look_up_ends_the_resolution() {
        let failed = Offsets::resolve(|m| if m.name == "skc_dport" { Err(m.path) } else { Ok(0) });
        assert_eq!(failed, Err("skc_dport"));
    }
}
