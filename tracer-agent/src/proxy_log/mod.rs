//! What proxies write into their logs of upstreams that failed, and which verdict belongs to each line.
//!
//! Pure: lines and verdicts in, pairs out. Knows no agent, no file and no clock. What each proxy logs for each
//! failure is recorded in `docs/causes.md`.

mod class;
mod failure;
pub mod haproxy;
mod join;
mod lines;
pub mod nginx;

pub use class::Class;
pub use failure::{Entry, Failure, Upstream, Window};
pub use join::{JoinedBy, Joiner, Memory, NotJoined, Outcome, Pair};
pub use lines::Lines;
pub use nginx::{LogFormat, LogFormatError};

use jiff::tz::TimeZone;

/// Who wrote a log, and in which form.
#[derive(Clone, Debug)]
pub enum Format {
    NginxError,
    /// With the `log_format` that wrote it, if it is known.
    NginxAccess(Option<LogFormat>),
    HaProxy,
}

impl Format {
    /// What one line says; times without a zone are of `zone`.
    #[must_use]
    pub fn read(&self, number: u64, line: &str, zone: &TimeZone) -> Entry {
        match self {
            Self::NginxError => nginx::error_line(number, line, zone),
            Self::NginxAccess(format) => nginx::access_line(number, line, format.as_ref()),
            Self::HaProxy => haproxy::log_line(number, line, zone),
        }
    }

    /// Names of the processes that write such a log, as `ps` shows them.
    #[must_use]
    pub fn comms(&self) -> &'static [&'static str] {
        match self {
            Self::NginxError | Self::NginxAccess(_) => nginx::COMMS,
            Self::HaProxy => haproxy::COMMS,
        }
    }

    /// What wrote it.
    #[must_use]
    pub fn proxy(&self) -> &'static str {
        match self {
            Self::NginxError | Self::NginxAccess(_) => "nginx",
            Self::HaProxy => "haproxy",
        }
    }

    /// What a line of it looks like, for who gave a file of another kind.
    #[must_use]
    pub fn expected(&self) -> &'static str {
        match self {
            Self::NginxError => {
                "lines of nginx's error log, such as `2026/11/21 12:03:07 [error] 812#812: *55 connect() failed …`"
            }
            Self::NginxAccess(Some(_)) => "lines of nginx's access log in the form of --log-format",
            Self::NginxAccess(None) => {
                "lines of nginx's access log (combined, name=value or JSON with the names of nginx's variables; \
                 `--log-format` names any other)"
            }
            Self::HaProxy => {
                "HAProxy's lines of `option httplog` or `option tcplog`, such as `10.0.1.9:40000 [21/Nov/2026:12:03:07.412] \
                 clients servers/api 0/0/0/-1/1 502 …`"
            }
        }
    }

    /// What to add to the proxy's configuration so that its log says the upstream.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NginxError => None,
            Self::NginxAccess(_) => Some(nginx::ADVICE),
            Self::HaProxy => Some(haproxy::ADVICE),
        }
    }
}

#[cfg(test)]
mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    /// Real lines, so that mutations of them get past the first look.
    const SEEDS: [&str; 9] = [
        "2026/11/21 12:03:07 [error] 812#812: *55 connect() failed (111: Connection refused) while connecting to \
         upstream, client: 10.0.1.9, server: , request: \"GET / HTTP/1.1\", upstream: \"http://10.0.3.7:9000/\", host: \"a\"",
        "2026/11/21 12:03:07 [error] 812#812: *55 api.example could not be resolved (3: Host not found), client: 10.0.1.9",
        "2026/11/21 12:03:07 [crit] 812#812: *1 connect() to unix:/run/x.sock failed (2: No such file or directory) \
         while connecting to upstream, client: unix:, upstream: \"fastcgi://unix:/run/x.sock:\"",
        "2026/11/21 12:03:07 [emerg] 1#1: host not found in upstream \"a\" in /etc/nginx/nginx.conf:3",
        "10.0.1.9 - - [21/Nov/2026:12:03:07 +0000] \"GET / HTTP/1.1\" 502 157 \"-\" \"curl/7.88\"",
        "msec=1795262587.412 status=502 upstream_addr=\"10.0.3.7:80, 10.0.3.8:80\" upstream_status=\"502, 504\" \
         upstream_response_time=\"0.000, 1.000\"",
        "{\"msec\":\"1795262587.412\",\"status\":502,\"upstream_addr\":\"10.0.3.7:80\"}",
        "10.0.1.9:40000 [21/Nov/2026:12:03:07.412] in pool/api 0/0/0/-1/1 502 209 - - SH-- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"",
        "10.0.1.9:40000 [21/Nov/2026:12:03:07.412] in pool/api 1/-1/3003 0 SC 1/1/0/0/3 0/0 10.0.1.2:4 10.0.3.7:80",
    ];

    fn read_as_each(line: &str) {
        let own: LogFormat =
            "$remote_addr [$time_local] $status \"$request\" $upstream_addr".parse().unwrap();
        for format in
            [Format::NginxError, Format::NginxAccess(None), Format::NginxAccess(Some(own)), Format::HaProxy]
        {
            let _ = format.read(1, line, &TimeZone::UTC);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            read_as_each(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn nothing_panics_near_a_real_line(
            seed in 0..SEEDS.len(),
            cut in 0usize..300,
            at in 0usize..300,
            junk in "\\PC{0,6}|[\"(:,\\[\\] ]{0,4}",
        ) {
            let mut text: String = SEEDS[seed].chars().take(cut.max(30)).collect();
            let at = text.char_indices().map(|(i, _)| i).nth(at).unwrap_or(0);
            text.insert_str(at, &junk);
            read_as_each(&text);
        }

        #[test]
        fn no_log_format_panics(format in "\\PC{0,40}|[$\\{\\}a-z_ \"]{0,40}", line in "\\PC{0,80}") {
            if let Ok(format) = format.parse::<LogFormat>() {
                let _ = Format::NginxAccess(Some(format)).read(1, &line, &TimeZone::UTC);
            }
        }
    }
}
