//! Every case, by the software that it is about. A group's file and its fixture have the same name.

pub mod backlog;
pub mod dns;
pub mod firewall;
pub mod go;
pub mod gunicorn;
pub mod haproxy;
pub mod http2;
pub mod network;
pub mod node;
pub mod php_fpm;
pub mod plain;
pub mod quiet;
pub mod timeouts;
pub mod tls;
pub mod unix;

use super::Case;

/// A group: its name, its cases, and the text of its fixture.
pub type Group = (&'static str, &'static [Case], &'static str);

macro_rules! groups {
    ($($group:ident),+ $(,)?) => {
        /// All of them, in the order of the table.
        pub const GROUPS: &[Group] = &[
            $((
                stringify!($group),
                $group::CASES,
                include_str!(concat!("../../../fixtures/board/", stringify!($group), ".json")),
            ),)+
        ];
    };
}

groups![
    plain, timeouts, php_fpm, unix, gunicorn, go, node, haproxy, tls, http2, dns, firewall, backlog, network,
    quiet,
];
