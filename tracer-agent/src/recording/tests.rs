use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use serde_json::Value;
use tracer_ebpf::wire;
use zerocopy::IntoBytes as _;

use super::write::input_line;
use super::*;
use crate::agent::Input;
use crate::event::{Event, QueueDrops, decode};
use crate::output::filter::Filter;
use crate::table::SETTLE_NS;

const NETNS: u32 = 4_026_532_246;
const START: u64 = 1_000_000_000;
const UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";

fn header() -> Header {
    Header {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        host: "gw-1".to_owned(),
        ktime_ns: START,
        clock_offset_ns: 1_795_176_186_000_000_000,
        hz: 250,
        suspended_ns: 0,
        vantage: None,
        reset_reasons: BTreeMap::from([("NO_SOCKET".to_owned(), 3)]),
        hooks: vec![HookView { hook: "tcp_send_reset".to_owned(), how: None, attached: false }],
        groups: vec!["dns".to_owned()],
    }
}

/// Longer than any record.
const LONGEST: usize = 1024;

/// Any event that the programs could send: the size of a record of each kind is found by trying.
fn any_event() -> impl Strategy<Value = Event> {
    let body = proptest::collection::vec(any::<u8>(), LONGEST);
    (1..wire::kind::COUNT as u16, body).prop_filter_map("no event", |(kind, body)| {
        (size_of::<wire::Header>()..LONGEST).step_by(8).find_map(|size| {
            let head = wire::Header { version: wire::VERSION, kind, size: size as u32, ktime_ns: START };
            let mut bytes = head.as_bytes().to_vec();
            bytes.extend(&body[..size - bytes.len()]);
            if kind == wire::kind::SOCKET_END && size == size_of::<wire::SocketEnd>() {
                let role = std::mem::offset_of!(wire::SocketEnd, role);
                bytes[role] = 1 + bytes[role] % 2;
            }
            decode(&bytes).ok()
        })
    })
}

/// A client's connection that was reset with a request pending: a verdict without any other event.
fn lost_request(ktime_ns: u64) -> Event {
    let json = format!(
        r#"{{"kind":"socket_end","ktime_ns":{ktime_ns},"skaddr":1,"cookie":7,"opened_ns":1,"role":"client",
        "tuple":{{"local":"10.0.1.2:43210","peer":"10.0.3.7:9000","netns":{NETNS}}},"old_state":"ESTABLISHED",
        "new_state":"CLOSE","owner":{{"tgid":812,"parent_tgid":1,"start_boottime":5,"comm":"nginx","cgroup_id":1,
        "netns":{NETNS},"exit":null,"kernel_thread":false}},"actor":null,"sk_err":104,"shutdown":3,
        "rst_received":true,"fin_seen":false,"linger0":false,"no_socket":false,"pending":true,"owner_accepts":true,
        "preexisting":false,"marked":true,"unanswered":false,"refused_in_netns":null,"bytes_received":0,
        "bytes_sent":100,"unread":0,"unacked":0,"write_seq":100,"rcv_nxt":1,"lsnd_age":10,"lrcv_age":10,
        "retransmits":0,"retransmits_since_read":0,"srtt_us":100,"exchanges":0,"written_since_read":100}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn header_line() -> String {
    serde_json::to_string(&Line::Recording(header())).unwrap()
}

fn replay(text: impl AsRef<[u8]>) -> Result<(Vec<String>, Vec<String>), ReadError> {
    let mut replay = Replay::new(text.as_ref(), "r.ndjson")?;
    let mut lines = Vec::new();
    while let Some((_, view)) = replay.next_verdict()? {
        lines.push(view.to_json());
    }
    Ok((lines, replay.remarks().iter().map(ToString::to_string).collect()))
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    replay(text).unwrap_err().to_string()
}

fn settle(now_ns: u64) -> String {
    input_line(&Input::Settle { now_ns })
}

#[test]
fn what_the_kernel_counted_is_evidence_in_a_replay_too() {
    let end = serde_json::to_value(lost_request(START)).unwrap();
    let with = |changes: Value| {
        let mut end = end.clone();
        for (key, value) in changes.as_object().unwrap() {
            end[key] = value.clone();
        }
        end.to_string()
    };
    let silent = serde_json::json!({
        "old_state": "SYN_SENT", "sk_err": 110, "rst_received": false, "pending": false, "retransmits": 2,
        "bytes_sent": 0,
    });
    let listener = format!(
        r#"{{"kind":"listener","ktime_ns":{START},"skaddr":2,"address":"0.0.0.0:9000","netns":{NETNS},
        "listening":true,"actor":null,"backlog":0,"backlog_limit":128}}"#
    );
    let drops = QueueDrops {
        since_ns: START - 1,
        ktime_ns: START + 1,
        netns: NETNS,
        overflows: 3,
        drops: 3,
        handshakes_full: 0,
    };
    let lines = [
        header_line(),
        listener.replace('\n', ""),
        with(silent),
        input_line(&Input::Drops(drops)),
        settle(START + SETTLE_NS),
    ];
    assert!(lines[3].starts_with(r#"{"kind":"queue_drops","#), "{}", lines[3]);
    let (verdicts, remarks) = replay(text(&lines)).unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    assert!(verdicts[0].contains("the kernel counted 3 overflows of accept queues"), "{verdicts:?}");
}

#[test]
fn names_and_the_clock_are_those_of_the_recording() {
    let end = input_line(&Input::Event(lost_request(START)));
    let name = |question, name: &str| {
        serde_json::to_string(&Line::Name(Box::new(Answer {
            question,
            name: Some(name.to_owned()),
            registration: None,
            pod: None,
            endpoint: None,
        })))
        .unwrap()
    };
    let lines = [
        header_line(),
        end,
        input_line(&Input::Tick { now_ns: START + 1, clock_offset_ns: 1_795_176_190_000_000_000 }),
        name(Question::Cgroup { tgid: 812, start_boottime: 5 }, &format!("/kubepods/pod{UID}/{}", "ab".repeat(32))),
        format!(
            r#"{{"kind":"name","of":"pod","container":"{}","name":null,"pod":{{"namespace":"shop","name":"edge-0","uid":"{UID}","container":null,"workload":"statefulset/edge"}}}}"#,
            "ab".repeat(32)
        ),
        r#"{"kind":"name","of":"endpoint","target":{"tcp":"10.0.3.7:9000"},"name":null,"endpoint":{"service":"shop/api","pod":"shop/api-0","address":"10.244.0.9:9000"}}"#.to_owned(),
        name(Question::Scope { netns: NETNS }, "0123456789ab"),
        r#"{"kind":"name","of":"registration","target":{"tcp":"10.0.3.7:9000"},"netns":4026532246,"comm":"nginx",
        "name":null,"registration":{"gateway":"nginx","name":"api","weight":null,"state":"backup",
        "file":"/etc/nginx/api.conf","line":3}}"#
            .replace('\n', ""),
        settle(START + SETTLE_NS),
    ];
    let (verdicts, remarks) = replay(text(&lines)).unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    let [verdict] = &verdicts[..] else { panic!("{verdicts:?}") };
    for part in [
        r#""time":"2026-11-20T12:03:11.000000000Z","host":"gw-1","netns":4026532246,"scope":"0123456789ab""#,
        r#""cause":"reset_without_response""#,
        r#""upstream_name":"api","upstream_pod":"shop/api-0","upstream_endpoint":"10.244.0.9:9000","registration":{"gateway":"nginx","name":"api","weight":null,"state":"backup""#,
        r#""pod":{"namespace":"shop","name":"edge-0","uid":"2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11","container":null"#,
    ] {
        assert!(verdict.contains(part), "{part} is not in {verdict}");
    }
}

#[test]
fn an_end_is_judged_when_the_recording_says_so() {
    let end = input_line(&Input::Event(lost_request(START)));
    let early = settle(START + SETTLE_NS - 1);
    let (verdicts, _) = replay(text(&[header_line(), end.clone(), early])).unwrap();
    assert_eq!(verdicts.len(), 0);
    let (verdicts, _) = replay(text(&[header_line(), end, settle(START + SETTLE_NS)])).unwrap();
    assert_eq!(verdicts.len(), 1);
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_place_and_the_remedy() {
    let newer = header_line().replace(r#""schema":1,"version":"0.1.0""#, r#""schema":2,"version":"9.0""#);
    for (text, what) in [
        (String::new(), "r.ndjson: it is empty: make a recording with `rstrace record FILE`"),
        ("hello\n".to_owned(), "r.ndjson: line 1: no header, so this is no recording"),
        (settle(1), "r.ndjson: line 1: no header, so this is no recording"),
        (
            "{\"kind\":\"recording\"}\n".to_owned(),
            "line 1: its header cannot be read (missing field `schema`)",
        ),
        (newer, "line 1: recording of schema 2, made by rstrace 9.0, and this rstrace reads schema 1"),
        (
            text(&[header_line(), "{\"kind\":\"settle\"}".to_owned(), settle(1)]),
            "line 2: damaged (missing field `now_ns`): cut this line out to replay the rest",
        ),
        (text(&[header_line(), "{oops".to_owned(), settle(1)]), "line 2: damaged (key must be a string)"),
        (text(&[header_line(), String::new(), header_line()]), "line 3: a second recording begins here"),
        (
            text(&[header_line(), "{\"kind\":\"signal\"}".to_owned(), settle(1)]),
            "line 2: damaged (missing field `ktime_ns`)",
        ),
        (
            format!("{}\n{}", header_line(), "x".repeat(2 << 20)),
            "line 2: longer than any line of a recording",
        ),
    ] {
        let said = refusal(&text);
        assert!(said.contains(what) && said.lines().count() == 1, "{said}");
    }
    assert!(refusal([0xff, 0xfe, b'\n']).contains("line 1: no header"));
}

#[test]
fn an_interrupted_recording_is_replayed_up_to_its_torn_line() {
    let end = input_line(&Input::Event(lost_request(START)));
    let whole = text(&[header_line(), end.clone(), settle(START + SETTLE_NS)]);
    let (verdicts, remarks) = replay(format!("{whole}{}", &end[..100])).unwrap();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(
        remarks,
        ["r.ndjson: line 4: cut off in the middle, passed over: the recording was interrupted"]
    );
}

#[test]
fn kinds_of_a_newer_rstrace_are_counted_and_named_once() {
    let unknown = |kind: &str| format!("{{\"kind\":\"{kind}\",\"x\":[1]}}");
    let lines = [
        header_line(),
        unknown("quic_end"),
        unknown("quic_end"),
        unknown("a\\u001b[2J"),
        input_line(&Input::Event(lost_request(START))),
        settle(START + SETTLE_NS),
    ];
    let (verdicts, remarks) = replay(text(&lines)).unwrap();
    assert_eq!(verdicts.len(), 1);
    let [remark] = &remarks[..] else { panic!("{remarks:?}") };
    assert!(remark.contains("3 lines passed over") && remark.contains("(a\\u{1b}[2J, quic_end)"), "{remark}");
}

#[test]
fn fields_of_a_newer_rstrace_are_passed_over() {
    let end = input_line(&Input::Event(lost_request(START))).replace("{\"", "{\"new_field\":[{}],\"");
    let (verdicts, remarks) = replay(text(&[header_line(), end, settle(START + SETTLE_NS)])).unwrap();
    assert_eq!((verdicts.len(), remarks.len()), (1, 0));
}

#[tokio::test]
async fn a_file_that_is_too_slow_gets_the_number_of_lines_that_it_misses() {
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
    let (mut recorder, written) = Recorder::file(std::path::Path::new(&path)).unwrap();
    drop(pipe);
    recorder.begin(&header(), &[]);
    let line = settle(1);
    // More than queue and pipe can hold.
    let offered = 40_000;
    for _ in 0..offered {
        recorder.input(line.clone(), Vec::new());
    }
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    // Until there is room for the count, and then for a line.
    while recorder_omits(&mut recorder, &line) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(recorder);
    written.finish().await.unwrap();
    let recorded = reading.join().unwrap();
    let omitted: u64 = recorded
        .lines()
        .filter_map(|line| {
            line.strip_prefix(r#"{"kind":"omitted","count":"#)?.strip_suffix('}')?.parse::<u64>().ok()
        })
        .sum();
    let lines = recorded.lines().filter(|l| **l == *line).count() as u64;
    assert!(omitted > 0 && lines + omitted > offered, "{lines} lines, {omitted} omitted");
    let (_, remarks) = replay(recorded).unwrap();
    assert!(
        remarks[0].contains("lines are missing, since the file could not be written fast enough"),
        "{remarks:?}"
    );
}

fn recorder_omits(recorder: &mut Recorder, line: &str) -> bool {
    recorder.input(line.to_owned(), Vec::new());
    recorder.omitted()
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_names_it() {
    let (mut recorder, mut written) = Recorder::file(std::path::Path::new("/dev/full")).unwrap();
    recorder.begin(&header(), &[]);
    let error = written.failed().await.to_string();
    assert!(error.starts_with("cannot write the recording to /dev/full: No space left"), "{error}");
}

#[test]
fn a_torn_last_line_is_cut_off() {
    for (before, after) in [("one\ntwo\nthr", "one\ntwo\n"), ("one", ""), ("one\n", "one\n"), ("", "")] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(before.as_bytes()).unwrap();
        write::cut_torn_line(&file).unwrap();
        assert_eq!(std::io::read_to_string(&file).unwrap_or_default(), "", "read on from the end");
        std::io::Seek::rewind(&mut file).unwrap();
        assert_eq!(std::io::read_to_string(&file).unwrap(), after);
    }
    let long = format!("one\n{}", "x".repeat(10_000));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(long.as_bytes()).unwrap();
    write::cut_torn_line(&file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4);
}

/// Streams of real faults, with what must be said of them: `tests/README.md` tells how to add one.
#[test]
fn recorded_faults_get_the_expected_verdicts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let recordings: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "ndjson")).collect();
    assert!(recordings.len() >= 5, "{recordings:?}");
    for path in recordings {
        let name = path.display();
        let recorded = std::fs::read(&path).unwrap();
        let mut replay = Replay::new(&*recorded, &name.to_string()).unwrap();
        let mut shown = Vec::new();
        while let Some((verdict, view)) = replay.next_verdict().unwrap() {
            if Filter::default().shows(&verdict, &view) {
                shown.push(serde_json::to_value(&view).unwrap());
            }
        }
        assert!(replay.remarks().is_empty(), "{name}: {:?}", replay.remarks());
        let expected = std::fs::read(path.with_extension("verdicts.json")).unwrap();
        let expected: Vec<Value> = serde_json::from_slice(&expected).unwrap();
        let all = expected.len() == shown.len() && expected.iter().zip(&shown).all(|(e, s)| holds(e, s));
        assert!(all, "{name}: expected {expected:#?}, got {shown:#?}");
    }
}

/// Whether every key that is expected has its value; others may be there.
fn holds(expected: &Value, shown: &Value) -> bool {
    match (expected, shown) {
        (Value::Object(expected), Value::Object(shown)) => {
            expected.iter().all(|(key, value)| shown.get(key).is_some_and(|shown| holds(value, shown)))
        }
        _ => expected == shown,
    }
}

proptest! {
    #[test]
    fn every_event_comes_back_as_it_was(event in any_event()) {
        let line = input_line(&Input::Event(event.clone()));
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event.clone());
        let (_, remarks) = replay(text(&[header_line(), line])).unwrap();
        prop_assert!(remarks.is_empty(), "{:?}", remarks);
    }

    #[test]
    fn no_bytes_make_a_replay_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        event in any_event(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut whole = text(&[header_line(), input_line(&Input::Event(event)), settle(u64::MAX)]).into_bytes();
        whole.splice(at.index(whole.len()).., bytes.clone());
        let _ = replay(&whole);
        let _ = replay(&bytes);
    }
}
