use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::cli::selection_of;
use crate::output::fixture;
use crate::output::view::Line;

struct Page {
    address: SocketAddr,
    hub: Hub,
    token: Option<Token>,
}

async fn open(token_file: Option<&Path>) -> Page {
    let web = Web::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), token_file).await.unwrap();
    let hub = Hub::default();
    let ready = || Ready::new(0, &fixture::origin(), vec![], vec![]);
    // Nobody answers: its other end is gone.
    let (asker, _) = Asker::new();
    let answers = Answers { hub: hub.clone(), ready: Arc::new(ready), asker, select: selection_of };
    let (address, token) = (web.address(), web.token.clone());
    drop(web.serve(answers).unwrap());
    Page { address, hub, token }
}

impl Page {
    fn publish(&self, count: usize) {
        let verdict = fixture::oom_killed();
        (0..count).for_each(|_| self.hub.publish(&verdict, &fixture::shared(&verdict)));
    }

    async fn send(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let mut text = String::new();
        self.send(path, headers).await.read_to_string(&mut text).await.unwrap();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }

    /// Opens a stream and reads on until it has so many lines of data.
    async fn follow(&self, path: &str, lines: usize) -> (TcpStream, Vec<Line>) {
        let mut stream = self.send(path, "").await;
        let read = read_lines(&mut stream, lines).await;
        (stream, read)
    }
}

async fn read_lines(stream: &mut TcpStream, lines: usize) -> Vec<Line> {
    let mut text = String::new();
    let data = |text: &str| {
        let data = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        data.filter_map(|line| line.strip_prefix("data: ").map(|l| Line::parse(l.trim_end()).unwrap()))
            .collect()
    };
    let mut buffer = [0; 4096];
    loop {
        let found: Vec<_> = data(&text);
        if found.len() >= lines {
            return found;
        }
        let n =
            tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(n > 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
}

fn kinds(lines: &[Line]) -> String {
    let letter = |line: &Line| match line {
        Line::Ready(_) => 'r',
        Line::Verdict(_) => 'v',
        Line::History(_) => 'h',
        Line::Omitted(_) => 'o',
        _ => '?',
    };
    lines.iter().map(letter).collect()
}

#[tokio::test]
async fn the_page_is_served_with_a_policy_and_is_not_kept() {
    let page = open(None).await;
    let (status, text) = page.get("/", "").await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(status, 200, "{head}");
    for header in [
        "content-security-policy: default-src 'none'; script-src 'nonce-",
        "frame-ancestors 'none'",
        "connect-src 'self'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "referrer-policy: no-referrer",
        "content-type: text/html",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    let nonce = head.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(body.contains(&format!("<script nonce=\"{nonce}\">")));
    let (_, again) = page.get("/", "").await;
    assert!(!again.contains(nonce), "the same nonce twice");
    assert!(!head.contains("unsafe"), "{head}");
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_shown() {
    let page = open(None).await;
    for (path, headers, expected) in [
        ("/nothing", "", 404),
        ("/api/events", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("/api/events", "Host: evil.example\r\n", 421),
        ("/api/history?cause=nonsense", "", 400),
        ("/api/history?x=1", "", 400),
        ("/api/events?until=12:00", "", 400),
    ] {
        let (status, text) = page.get(path, headers).await;
        assert_eq!(status, expected, "{path}: {text}");
        assert!(text.contains("cache-control: no-store") && text.contains("nosniff"), "{text}");
        assert!(text.contains("content-security-policy: default-src 'none'"), "{text}");
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert!(body.lines().count() <= 1, "{body}");
    }
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 405"), "{text}");
}

#[tokio::test]
async fn a_token_that_was_given_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let page = open(Some(&file)).await;
    for path in ["/", "/api/history", "/api/events", "/nothing"] {
        let (status, text) = page.get(path, "").await;
        assert_eq!(status, 401, "{text}");
        assert!(!text.contains("0123456789abcdef") && !text.contains("<script"), "{text}");
    }
    let (status, text) = page.get("/?token=0123456789abcdef", "").await;
    assert_eq!(status, 200);
    assert!(text.contains("set-cookie: rstrace-token=0123456789abcdef; Path=/; HttpOnly; SameSite=Strict"));
    assert_eq!(page.get("/api/history", "Cookie: rstrace-token=0123456789abcdef\r\n").await.0, 200);
    assert_eq!(page.get("/api/history", "Authorization: Bearer 0123456789abcdef\r\n").await.0, 200);
    assert_eq!(page.get("/api/history?token=0123456789abcdef", "").await.0, 200);
    assert!(page.token.is_some());
}

#[tokio::test]
async fn beyond_loopback_there_is_always_a_token() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let web = Web::bind(everywhere, None).await.unwrap();
    assert_eq!(web.generated_token().unwrap().reveal().len(), 32);
    let loopback = Web::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None).await.unwrap();
    assert!(loopback.generated_token().is_none() && loopback.token.is_none());
    let error = Web::bind(loopback.address(), None).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot serve the web page on ") && error.ends_with("with --web"), "{error}");
}

#[tokio::test]
async fn the_past_comes_first_and_then_what_happens() {
    let page = open(None).await;
    page.publish(300);
    let (mut stream, lines) = page.follow("/api/events?since=2020-01-01T00:00:00Z", 302).await;
    assert_eq!(kinds(&lines), format!("r{}h", "v".repeat(300)));
    page.publish(2);
    assert_eq!(kinds(&read_lines(&mut stream, 2).await), "vv");
    let (_, lines) = page.follow("/api/events?upstream=10.0.0.0/8", 2).await;
    assert_eq!(kinds(&lines), "rh");
    let (_, lines) = page.follow("/api/events?since=2020-01-01T00:00:00Z&cause=no_listener", 2).await;
    assert_eq!(kinds(&lines), "rh");
}

#[tokio::test]
async fn the_history_is_lines() {
    let page = open(None).await;
    page.publish(3);
    let (status, text) = page.get("/api/history?upstream=10.0.3.7:9000", "").await;
    assert_eq!(status, 200);
    assert!(text.contains("content-type: application/x-ndjson"));
    assert_eq!(text.matches("\"kind\":\"verdict\"").count(), 3);
    assert_eq!(text.matches("\"kind\":\"history\",\"kept\":3").count(), 1);
    let (_, text) = page.get("/api/history?by=client", "").await;
    assert_eq!(text.matches("\"kind\":\"verdict\"").count(), 0);
}

#[tokio::test]
async fn the_report_is_of_what_was_asked_for() {
    let page = open(None).await;
    page.publish(300);
    let report = async |path| {
        let (status, text) = page.get(path, "").await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("content-type: application/json"), "{text}");
        let body = text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };
    let all = report("/api/report?since=2020-01-01T00:00:00Z").await;
    assert_eq!(all["totals"]["losses"], 300);
    assert_eq!(all["groups"][0]["upstream"], "10.0.3.7:9000");
    assert_eq!(report("/api/report?cause=no_listener").await["totals"]["losses"], 0);
    assert_eq!(page.get("/api/report?cause=nonsense", "").await.0, 400);
}

#[tokio::test]
async fn pages_are_bounded_and_a_place_comes_free_again() {
    let page = open(None).await;
    let mut streams = Vec::new();
    for _ in 0..MAX_ANSWERS {
        streams.push(page.follow("/api/events", 1).await);
    }
    let (status, text) = page.get("/api/events", "").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.ends_with("16 pages of this agent are open already: close one of them\n"), "{text}");
    streams.pop();
    // The server notices when it writes.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while page.get("/api/history", "").await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the place did not come free");
        page.publish(1);
    }
}
