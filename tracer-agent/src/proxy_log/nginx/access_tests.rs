use super::*;

fn failures(line: &str, format: Option<&str>) -> Vec<Failure> {
    let format: Option<LogFormat> = format.map(|format| format.parse().unwrap());
    match access_line(3, line, format.as_ref()) {
        Entry::Failures(failures) => failures,
        other => panic!("{line}: {other:?}"),
    }
}

/// Class, upstream and times.
fn story(failure: &Failure) -> (Class, String, String, String) {
    let clock = |time: Timestamp| time.to_string()[11..].trim_end_matches('Z').to_owned();
    let upstream = failure.upstream.as_ref().map_or("-".to_owned(), ToString::to_string);
    (failure.class, upstream, clock(failure.window.from), clock(failure.window.until))
}

fn expected(class: Class, upstream: &str, from: &str, until: &str) -> (Class, String, String, String) {
    (class, upstream.to_owned(), from.to_owned(), until.to_owned())
}

#[test]
fn the_combined_format_knows_the_time_alone() {
    let line = "10.0.1.9 - - [21/Nov/2026:12:03:07 +0100] \"GET /x HTTP/1.1\" 502 157 \"-\" \"curl/7.88.1\"";
    for prefix in ["", "<190>Nov 21 12:03:07 gw nginx: "] {
        let found = failures(&format!("{prefix}{line}"), None);
        assert_eq!(story(&found[0]), expected(Class::BadGateway, "-", "11:03:07", "11:03:08"));
        assert_eq!(found[0].said, "502 GET /x HTTP/1.1");
    }
    assert_eq!(access_line(1, &line.replace(" 502 ", " 200 "), None), Entry::Other);
    assert_eq!(access_line(1, "no access log", None), Entry::Unknown);
}

#[test]
fn each_attempt_has_its_own_time() {
    let line = "msec=1795262587.412 status=504 upstream_addr=\"10.0.3.7:80, 10.0.3.8:80 : unix:/run/a.sock\" \
                upstream_status=\"502, 200 : 504\" upstream_response_time=\"0.010, 1.000 : 2.500\" request=\"GET / HTTP/1.1\"";
    let found: Vec<_> = failures(line, None).iter().map(story).collect();
    assert_eq!(
        found,
        [
            expected(Class::BadGateway, "10.0.3.7:80", "12:03:03.892", "12:03:03.932"),
            expected(Class::GatewayTimeout, "unix:/run/a.sock", "12:03:07.392", "12:03:07.432"),
        ]
    );
}

#[test]
fn json_and_formats_of_ones_own_say_the_same() {
    let json = "{\"time_iso8601\":\"2026-11-21T12:03:07+00:00\",\"status\":502,\"upstream_addr\":\"[fd00::7]:80\",\
                \"upstream_status\":\"502\",\"request_time\":\"1.500\"}";
    let own = "21/Nov/2026:12:03:07 +0000|502|[fd00::7]:80|502|1.500";
    let format = "$time_local|$status|$upstream_addr|$upstream_status|$request_time";
    let expected = expected(Class::BadGateway, "[fd00::7]:80", "12:03:05.5", "12:03:08");
    assert_eq!(story(&failures(json, None)[0]), expected);
    assert_eq!(story(&failures(own, Some(format))[0]), expected);
}

#[test]
fn lists_without_quotes_are_read_whole() {
    let line =
        "msec=1795262587.412 status=502 upstream_addr=10.0.3.7:80, 10.0.3.8:80 upstream_status=502, 502 end";
    assert_eq!(failures(line, None).len(), 2);
}

#[test]
fn what_was_no_connection_is_told_apart() {
    let line = |address: &str, header: &str| {
        format!(
            "msec=1795262587.412 status=502 upstream_addr=\"{address}\" upstream_status=\"502\" upstream_header_time=\"{header}\""
        )
    };
    for (address, header, class) in [
        ("-", "-", Class::NoUpstream),
        ("pool", "-", Class::NoLiveUpstreams),
        ("10.0.3.7:80", "0.004", Class::AnsweredItself),
        ("10.0.3.7:80", "-", Class::BadGateway),
    ] {
        assert_eq!(failures(&line(address, header), None)[0].class, class, "{address}");
    }
    let gone = "msec=1795262587.412 status=499 upstream_addr=\"10.0.3.7:80\" upstream_status=\"-\"";
    assert_eq!(failures(gone, None)[0].class, Class::ClientGone);
}

#[test]
fn the_advice_is_a_format_that_is_understood() {
    let format = ADVICE.split('\'').nth(1).unwrap();
    let variables = LogFormat::read(format).unwrap();
    let line = format
        .replace("$msec", "1795262587.412")
        .replace("$status", "502")
        .replace("$upstream_addr", "10.0.3.7:80")
        .replace("$upstream_status", "502")
        .replace("$upstream_response_time", "0.001")
        .replace("$upstream_header_time", "-");
    assert!(variables.fields(&line).is_some());
    assert_eq!(story(&failures(&line, None)[0]).1, "10.0.3.7:80");
}
