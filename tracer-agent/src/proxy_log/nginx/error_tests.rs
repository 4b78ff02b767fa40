use super::*;

/// A line as nginx writes it, with this message about this upstream.
fn line(level: &str, message: &str, upstream: &str) -> String {
    format!(
        "2026/11/21 12:03:07 [{level}] 812#812: *55 {message}, client: 10.0.1.9, server: , request: \"GET /x?a=b \
         HTTP/1.1\", upstream: \"{upstream}\", host: \"gw.example:8080\""
    )
}

fn read(line: &str) -> Entry {
    error_line(7, line, &TimeZone::UTC)
}

fn failure(line: &str) -> Failure {
    match read(line) {
        Entry::Failures(mut failures) if failures.len() == 1 => failures.remove(0),
        other => panic!("{line}: {other:?}"),
    }
}

/// Recorded with nginx 1.22.1.
const RECORDED: &[(&str, &str, Class)] = &[
    (
        "error",
        "upstream prematurely closed connection while reading response header from upstream",
        Class::Closed,
    ),
    (
        "error",
        "upstream prematurely closed FastCGI stdout while reading response header from upstream",
        Class::Closed,
    ),
    ("error", "upstream prematurely closed connection while reading upstream", Class::CutShort),
    (
        "error",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        Class::Reset,
    ),
    ("error", "readv() failed (104: Connection reset by peer) while reading upstream", Class::CutShort),
    (
        "error",
        "writev() failed (104: Connection reset by peer) while sending request to upstream",
        Class::Reset,
    ),
    ("error", "writev() failed (32: Broken pipe) while sending request to upstream", Class::Reset),
    (
        "error",
        "recv() failed (110: Connection timed out) while reading response header from upstream",
        Class::Unacknowledged,
    ),
    (
        "alert",
        "recv() failed (103: Software caused connection abort) while reading response header from upstream",
        Class::Destroyed,
    ),
    ("error", "connect() failed (111: Connection refused) while connecting to upstream", Class::Refused),
    ("error", "connect() failed (113: No route to host) while connecting to upstream", Class::Unreachable),
    (
        "error",
        "connect() failed (101: Network is unreachable) while connecting to upstream",
        Class::Unreachable,
    ),
    (
        "crit",
        "connect() failed (99: Cannot assign requested address) while connecting to upstream",
        Class::NoResource,
    ),
    (
        "error",
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        Class::ConnectTimedOut,
    ),
    (
        "error",
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
        Class::TimedOut,
    ),
    (
        "error",
        "upstream timed out (110: Connection timed out) while sending request to upstream",
        Class::TimedOut,
    ),
    (
        "error",
        "upstream timed out (110: Connection timed out) while SSL handshaking to upstream",
        Class::TimedOut,
    ),
    ("error", "peer closed connection in SSL handshake while SSL handshaking to upstream", Class::TlsFailed),
    (
        "error",
        "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream",
        Class::TlsFailed,
    ),
    (
        "error",
        "upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream",
        Class::TlsFailed,
    ),
    (
        "error",
        "upstream sent invalid header while reading response header from upstream",
        Class::InvalidAnswer,
    ),
    (
        "error",
        "upstream sent too big header while reading response header from upstream",
        Class::HeaderTooBig,
    ),
    ("error", "upstream sent invalid chunked response while reading upstream", Class::InvalidAnswer),
    (
        "error",
        "upstream rejected request with error 2 while reading response header from upstream",
        Class::InvalidAnswer,
    ),
    ("error", "no live upstreams while connecting to upstream", Class::NoLiveUpstreams),
    ("alert", "socket() failed (24: Too many open files) while connecting to upstream", Class::NoDescriptor),
    (
        "info",
        "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too while sending request to upstream",
        Class::ClientGone,
    ),
];

#[test]
fn each_message_has_its_class() {
    for &(level, message, class) in RECORDED {
        let found = failure(&line(level, message, "http://10.0.3.7:9000/x?a=b"));
        assert_eq!(found.class, class, "{message}");
        assert_eq!(found.said, message);
        assert_eq!(found.line, 7);
        assert_eq!(found.upstream.unwrap().to_string(), "10.0.3.7:9000", "{message}");
    }
}

#[test]
fn the_second_of_the_log_is_the_window() {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let text = line("error", "no live upstreams while connecting to upstream", "http://pool/");
    let Entry::Failures(found) = error_line(1, &text, &zone) else { panic!("{text}") };
    assert_eq!(found[0].window.from.to_string(), "2026-11-21T10:03:07Z");
    assert_eq!(found[0].window.until.to_string(), "2026-11-21T10:03:08Z");
    assert_eq!(found[0].upstream, Some(Upstream::Named("pool".to_owned())));
}

#[test]
fn every_kind_of_upstream_is_read() {
    for (url, upstream) in [
        ("https://10.0.3.7:443/", "10.0.3.7:443"),
        ("fastcgi://127.0.0.1:9000", "127.0.0.1:9000"),
        ("grpc://[fd00::7]:50051", "[fd00::7]:50051"),
        ("http://[::ffff:10.0.3.7]:80/a:b", "10.0.3.7:80"),
        ("fastcgi://unix:/run/php/php8.2-fpm.sock:", "unix:/run/php/php8.2-fpm.sock"),
        ("http://unix:/run/app.sock:/path:1", "unix:/run/app.sock"),
        // The stream module.
        ("10.0.3.7:5432", "10.0.3.7:5432"),
        ("unix:/run/db.sock", "unix:/run/db.sock"),
    ] {
        let found = failure(&line(
            "error",
            "connect() failed (111: Connection refused) while connecting to upstream",
            url,
        ));
        assert_eq!(found.upstream.unwrap().to_string(), upstream, "{url}");
    }
}

#[test]
fn unix_sockets_fail_in_ways_of_their_own() {
    for (errno, class) in [
        ("2: No such file or directory", Class::Refused),
        ("11: Resource temporarily unavailable", Class::BacklogFull),
        ("13: Permission denied", Class::NotPermitted),
    ] {
        let message =
            format!("connect() to unix:/run/php.sock failed ({errno}) while connecting to upstream");
        let found = failure(&line("crit", &message, "fastcgi://unix:/run/php.sock:"));
        assert_eq!((found.class, found.said), (class, message));
    }
}

#[test]
fn names_that_do_not_resolve_are_the_upstream() {
    let found = failure(
        "2026/11/21 12:03:07 [error] 8#8: *1 api.example could not be resolved (3: Host not found), client: 10.0.1.9, \
         server: , request: \"GET / HTTP/1.1\", host: \"a\"",
    );
    assert_eq!(
        (found.class, found.upstream.unwrap().to_string()),
        (Class::NotResolved, "dns:api.example".to_owned())
    );
    let found = failure(
        "2026/11/21 12:03:07 [emerg] 8#8: host not found in upstream \"db.example\" in /etc/nginx/nginx.conf:12",
    );
    assert_eq!(found.class, Class::NameUnknownAtStart);
    assert_eq!(found.upstream, Some(Upstream::Named("db.example".to_owned())));
    let found =
        failure("2026/11/21 12:03:07 [error] 8#8: *1 no resolver defined to resolve a.example, client: ::1");
    assert_eq!(found.class, Class::NoResolver);
}

#[test]
fn what_stands_before_the_date_is_passed_over() {
    let text = line("error", "no live upstreams while connecting to upstream", "http://pool/");
    for before in [
        "<187>Nov 21 12:03:07 gw-1 nginx: ",
        "2026-11-21T12:03:07.123456789Z stderr F ",
        "Nov 21 gw ngínx[1]: ",
    ] {
        assert_eq!(failure(&format!("{before}{text}")), failure(&text), "{before}");
    }
}

#[test]
fn other_lines_are_told_from_lines_of_other_logs() {
    for (level, message) in [
        ("notice", "signal process started"),
        ("warn", "upstream server temporarily disabled while connecting to upstream"),
        ("warn", "an upstream response is buffered to a temporary file /x while reading upstream"),
        ("info", "recv() failed (104: Connection reset by peer) while sending to client"),
        ("info", "client 10.0.1.9 closed keepalive connection"),
        ("error", "open() \"/srv/favicon.ico\" failed (2: No such file or directory)"),
        (
            "error",
            "FastCGI sent in stderr: \"Primary script unknown\" while reading response header from upstream",
        ),
    ] {
        assert_eq!(read(&line(level, message, "http://10.0.3.7:9000/")), Entry::Other, "{message}");
    }
    for text in [
        "",
        "no log",
        "10.0.1.9 - - [21/Nov/2026:12:03:07 +0000] \"GET / HTTP/1.1\" 502 157 \"-\" \"curl\"",
        "2026/13/21 12:03:07 [error] 1#1: x",
        "2026/11/21 12:03:07 [error] no number",
    ] {
        assert_eq!(read(text), Entry::Unknown, "{text}");
    }
}

#[test]
fn a_request_cannot_name_another_upstream() {
    let text = "2026/11/21 12:03:07 [error] 8#8: *1 connect() failed (111: Connection refused) while connecting to upstream, \
                client: 10.0.1.9, server: , request: \"GET /, upstream: \"http://9.9.9.9:1/ HTTP/1.1\", upstream: \
                \"http://10.0.3.7:80/\", host: \"a\", referrer: \"b\", upstream: \"http://8.8.8.8:1/\"";
    assert_eq!(failure(text).upstream.unwrap().to_string(), "10.0.3.7:80");
}
