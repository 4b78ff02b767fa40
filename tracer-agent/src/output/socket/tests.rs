use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::audit::Report;
use crate::output::audit::AuditView;
use crate::output::fixture;
use crate::output::hub::Hub;
use crate::output::state::{Asker, StateView};
use crate::output::view::{Line, Ready};
use crate::verdict::By;

fn of(filter: Filter) -> Selection {
    Selection { filter, ..Selection::default() }
}

struct Agent {
    hub: Hub,
    path: PathBuf,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

fn start() -> Agent {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/rstrace.sock");
    let server = Server::bind(&path).unwrap();
    let hub = Hub::default();
    let ready = || Ready::new(0, &fixture::origin(), Vec::new(), vec!["unix".to_owned()]);
    let audit =
        || AuditView::new(Report { unread: 3, ..Report::default() }, &fixture::origin(), |_| String::new());
    let (asker, mut asked) = Asker::new();
    let answers = async move {
        loop {
            asked.next().await.give(StateView::new("gw-1", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH));
        }
    };
    let served = server.serve(hub.clone(), ready, audit, asker);
    let task = tokio::spawn(async move {
        tokio::select! {
            () = served => {}
            () = answers => {}
        }
    });
    Agent { hub, path, task, _directory: directory }
}

impl Agent {
    async fn watch(&self, filter: Filter) -> Client {
        let mut client = Client::connect(&self.path).await.unwrap();
        client.watch(of(filter), vec![]).await.unwrap();
        let (line, _) = client.next_line().await.unwrap().unwrap();
        assert!(matches!(line, Line::Ready(_)), "{line:?}");
        client
    }

    fn publish(&self) {
        let verdict = fixture::oom_killed();
        self.hub.publish(&verdict, &fixture::shared(&verdict));
    }

    /// What the agent answers to raw bytes, until it closes.
    async fn answer(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn whoever_asks_for_the_audit_gets_one_line() {
    let agent = start();
    let audit = Client::connect(&agent.path).await.unwrap().audit().await.unwrap();
    assert_eq!(audit.unread, 3);
    let answer = agent.answer(b"{\"schema\":1,\"want\":\"audit\"}\n").await;
    assert_eq!(answer.lines().count(), 1, "{answer}");
}

#[tokio::test]
async fn a_watcher_is_ready_and_then_sees_what_it_asked_for() {
    let agent = start();
    let mut all = agent.watch(Filter::default()).await;
    let mut none = agent.watch(Filter { by: vec![By::Client], ..Filter::default() }).await;
    agent.publish();
    let (line, json) = all.next_line().await.unwrap().unwrap();
    let Line::Verdict(view) = line else { panic!("{line:?}") };
    assert_eq!(*view, fixture::view(&fixture::oom_killed()));
    assert_eq!(json, view.to_json());
    agent.task.abort();
    assert!(none.next_line().await.unwrap().is_none());
}

#[tokio::test]
async fn whoever_comes_later_gets_what_was() {
    let agent = start();
    agent.publish();
    agent.publish();
    let time = fixture::view(&fixture::oom_killed()).time;
    let kept = async |span: Span| {
        let mut views = Vec::new();
        let client = Client::connect(&agent.path).await.unwrap();
        let end = client.history(Selection { span, ..Selection::default() }, |view| views.push(view)).await;
        (views, end.unwrap().history)
    };
    let (views, end) = kept(Span::default()).await;
    assert_eq!(views, [fixture::view(&fixture::oom_killed()), fixture::view(&fixture::oom_killed())]);
    assert_eq!((end.kept, end.oldest, end.forgotten), (2, Some(time), 0));
    assert_eq!(kept(Span { until: Some(time), since: None }).await.0, []);
}

#[tokio::test]
async fn a_watcher_that_says_since_when_begins_with_the_past() {
    let agent = start();
    agent.publish();
    let time = fixture::view(&fixture::oom_killed()).time;
    let mut client = Client::connect(&agent.path).await.unwrap();
    let span = Span { since: Some(time), until: None };
    client.watch(Selection { span, ..Selection::default() }, vec![]).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(client.next_line().await.unwrap(), Some((Line::Ready(_) | Line::Verdict(_), _))));
    }
    agent.publish();
    assert!(matches!(client.next_line().await.unwrap(), Some((Line::Verdict(_), _))));
}

#[tokio::test]
async fn wanting_all_is_known_before_the_ready_line() {
    let agent = start();
    let client = agent.watch(Filter { all: true, ..Filter::default() }).await;
    assert!(agent.hub.wants_all());
    drop(client);
    while agent.hub.wants_all() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_bad_request_gets_one_line_that_says_why() {
    let agent = start();
    for (request, why) in [
        (&b"tell me\n"[..], "the request cannot be read"),
        (b"\xff\xfe\n", "the request cannot be read"),
        (b"{\"schema\":1,\"want\":\"gossip\"}\n", "unknown variant `gossip`"),
        (b"{\"schema\":9,\"want\":\"watch\"}\n", "the request has schema 9, this agent speaks 1"),
        (b"{\"schema\":1,\"want\":\"watch\",\"filter\":{\"upstream\":[\"x\"]}}\n", "`x` is no upstream"),
    ] {
        let answer = agent.answer(request).await;
        assert!(answer.starts_with(r#"{"schema":1,"kind":"error","error":""#), "{answer}");
        assert!(answer.contains(why), "{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    let answer = agent.answer(&vec![b'x'; 200 * 1024]).await;
    assert!(answer.contains("longer than 65536 bytes"), "{answer}");
}

#[tokio::test]
async fn the_client_says_that_it_was_refused() {
    let agent = start();
    let mut client = Client::connect(&agent.path).await.unwrap();
    let readers: Vec<_> =
        std::iter::from_fn(|| agent.hub.subscribe("a", Filter::default(), 1).ok()).collect();
    client.watch(Selection::default(), vec![]).await.unwrap();
    let error = client.next_line().await.unwrap_err();
    assert!(error.to_string().starts_with("the agent refused: 64 watchers are connected already"), "{error}");
    drop(readers);
}

#[tokio::test]
async fn what_was_learned_is_one_line() {
    let agent = start();
    let state = Client::connect(&agent.path).await.unwrap().state().await.unwrap();
    assert_eq!((state.host.as_str(), state.upstreams.len()), ("gw-1", 0));
}

#[tokio::test]
async fn the_past_comes_as_the_lines_that_were_told() {
    let agent = start();
    agent.publish();
    agent.publish();
    let mut lines = Vec::new();
    let take = |line: &str| {
        lines.push(line.to_owned());
        Ok(())
    };
    let client = Client::connect(&agent.path).await.unwrap();
    let told = client.history_lines(Selection::default(), take).await.unwrap();
    assert_eq!((told.history.kept, told.ready.host.as_str()), (2, "gw-1"));
    assert_eq!(lines, vec![fixture::view(&fixture::oom_killed()).to_json(); 2]);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_line_harms_nobody() {
    let agent = start();
    let mut other = agent.watch(Filter::default()).await;
    let mut rude = UnixStream::connect(&agent.path).await.unwrap();
    rude.write_all(b"{\"schema\":1,").await.unwrap();
    drop(rude);
    drop(agent.watch(Filter::default()).await);
    agent.publish();
    assert!(matches!(other.next_line().await.unwrap(), Some((Line::Verdict(_), _))));
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_agent() {
    let agent = start();
    let mode = std::fs::metadata(&agent.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.task.abort();
    assert!(agent.task.await.unwrap_err().is_cancelled());
    assert!(!agent.path.exists());
}

#[tokio::test]
async fn a_live_agent_is_not_pushed_aside_but_a_dead_ones_file_is() {
    let agent = start();
    let error = Server::bind(&agent.path).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    agent.watch(Filter::default()).await;

    let directory = tempfile::tempdir().unwrap();
    let stale = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(matches!(Client::connect(&stale).await.unwrap_err(), ClientError::NoAgent { .. }));
    let server = Server::bind(&stale).unwrap();
    assert_eq!(server.path(), stale);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let error = Server::bind(&file).unwrap_err();
    assert!(error.to_string().contains("exists and is no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let long = directory.path().join("x".repeat(200));
    assert!(matches!(Server::bind(&long).unwrap_err(), BindError::Io { .. }));
    let absent = Client::connect(Path::new("/nonexistent/rstrace.sock")).await.unwrap_err();
    assert!(matches!(absent, ClientError::NoAgent { .. }), "{absent}");
}

#[tokio::test]
async fn groups_that_the_agent_was_not_started_with_are_refused_with_the_remedy() {
    let agent = start();
    let mut client = Client::connect(&agent.path).await.unwrap();
    client.watch(Selection::default(), vec!["unix".to_owned()]).await.unwrap();
    assert!(client.next_line().await.is_ok());
    let mut client = Client::connect(&agent.path).await.unwrap();
    client.watch(Selection::default(), vec!["unix".to_owned(), "dns".to_owned()]).await.unwrap();
    let error = client.next_line().await.unwrap_err().to_string();
    assert!(error.contains("without the hooks of dns: start it with `rstrace agent --with dns`"), "{error}");
}
