//! The agent's end of the socket: one task a reader, none of which can hold up another or the agent.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::place::{BindError, Place};
use super::{MAX_REQUEST, Read, Request, Want, read_line};
use crate::output::audit::AuditView;
use crate::output::history::Past;
use crate::output::hub::{Hub, Item, MAX_READERS, Subscription};
use crate::output::selection::Selection;
use crate::output::state::Asker;
use crate::output::view::{HistoryView, Ready, Refusal, SCHEMA};

/// The label `sink` of what a reader misses.
const READER: &str = "socket";
/// Lines that wait for one reader.
const QUEUE: usize = 1024;
/// Bytes of waiting lines that are written together.
const WRITTEN_AT_ONCE: usize = 32 * 1024;
/// Connections at one time: readers, and those who have not said yet what they want.
const MAX_CONNECTIONS: usize = MAX_READERS + 16;
/// Within which a client has to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// After an accept failed (no file descriptor left), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket. Dropping it removes the file.
pub struct Server {
    listener: UnixListener,
    place: Place,
}

/// What clients are answered with.
#[derive(Clone)]
struct Answers {
    hub: Hub,
    ready: Arc<dyn Fn() -> Ready + Send + Sync>,
    audit: Arc<dyn Fn() -> AuditView + Send + Sync>,
    asker: Asker,
}

// === impl Server ===

impl Server {
    /// Binds, in place of what a killed agent left behind. Clients may connect from now on; they are answered
    /// once [`Server::serve`] runs.
    ///
    /// # Errors
    /// If a live agent has it, or the file system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let (listener, place) = Place::take(path)?;
        let failed = |error| BindError::Io { action: "listen on", path: path.to_owned(), error };
        Ok(Self { listener: UnixListener::from_std(listener).map_err(failed)?, place })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Answers clients for as long as it is polled; dropping the future ends all of them. `ready` makes the
    /// first line of a stream, so it is to be called only when every hook is attached.
    pub async fn serve(
        self,
        hub: Hub,
        ready: impl Fn() -> Ready + Send + Sync + 'static,
        audit: impl Fn() -> AuditView + Send + Sync + 'static,
        asker: Asker,
    ) {
        let answers = Answers { hub, ready: Arc::new(ready), audit: Arc::new(audit), asker };
        let mut connections = JoinSet::new();
        loop {
            // Reaps those that ended, so that the set is as large as what is connected.
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(converse(stream, answers.clone()));
                }
                Ok(_) => tracing::warn!("{MAX_CONNECTIONS} clients on the socket, the next one is refused"),
                Err(error) => {
                    tracing::warn!("cannot accept on {}: {error}", self.place.path().display());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("path", &self.place.path()).finish_non_exhaustive()
    }
}

/// One client, from its request until either side has enough.
async fn converse(stream: UnixStream, answers: Answers) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match tokio::time::timeout(REQUEST_TIME, read_line(&mut reader, MAX_REQUEST)).await {
        Ok(Ok(Read::Line(line))) => understand(&line),
        Ok(Ok(Read::TooLong)) => Err(format!("the request is longer than {MAX_REQUEST} bytes")),
        // It has left, or says nothing: there is nobody to answer.
        Ok(Ok(Read::Ended) | Err(_)) | Err(_) => return,
    };
    let done = match request {
        // Whoever has left needs no answer; what a client does not read harms nobody.
        Ok(Request { want: Want::Audit, .. }) => send(&mut writer, (answers.audit)().to_json()).await,
        Ok(Request { want: Want::State, .. }) => match answers.asker.state().await {
            Some(state) => send(&mut writer, state.to_json()).await,
            None => send(&mut writer, Refusal::new("it is about to end").to_json()).await,
        },
        Ok(request) => match stream_of(&request, &answers) {
            Ok(stream) => {
                tokio::select! {
                    done = stream.send(&mut writer) => done,
                    () = hung_up(reader) => Ok(()),
                }
            }
            Err(error) => {
                refuse(reader, writer, error).await;
                return;
            }
        },
        Err(error) => {
            refuse(reader, writer, error).await;
            return;
        }
    };
    if let Err(error) = done {
        tracing::debug!("a client of the socket was left: {error}");
    }
}

/// What one client gets: the past, the present, or both.
struct Stream {
    ready: Ready,
    past: Past,
    selection: Selection,
    live: Option<Subscription>,
}

/// What was asked for.
fn stream_of(request: &Request, answers: &Answers) -> Result<Stream, String> {
    let ready = (answers.ready)();
    has_groups(&ready, &request.with)?;
    let selection = request.selection();
    if request.want == Want::History {
        let past = answers.hub.past(selection.span);
        return Ok(Stream { ready, past, selection, live: None });
    }
    let (past, live) = if selection.span.since.is_some() {
        answers.hub.subscribe_since(READER, &selection, QUEUE)
    } else {
        answers.hub.subscribe(READER, selection.filter.clone(), QUEUE).map(|live| (Past::default(), live))
    }
    .map_err(|error| error.to_string())?;
    Ok(Stream { ready, past, selection, live: Some(live) })
}

impl Stream {
    async fn send(self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        send(writer, self.ready.to_json()).await?;
        let selection = Arc::new(self.selection);
        for block in self.past.blocks {
            let selection = Arc::clone(&selection);
            // The loop that takes events has to get on meanwhile.
            let lines = tokio::task::spawn_blocking(move || block.lines(&selection)).await?;
            writer.write_all(lines.map_err(io::Error::other)?.as_bytes()).await?;
        }
        let Some(mut live) = self.live else {
            return send(writer, HistoryView::new(self.past.extent).to_json()).await;
        };
        while let Some(item) = live.recv().await {
            let mut lines = line_of(&item);
            // In a flood a write for each line would wake the reader for each.
            while lines.len() < WRITTEN_AT_ONCE
                && let Some(item) = live.ready()
            {
                lines.push_str(&line_of(&item));
            }
            writer.write_all(lines.as_bytes()).await?;
        }
        Ok(())
    }
}

/// With its line feed.
fn line_of(item: &Item) -> String {
    let mut line = match item {
        Item::Verdict(view) => view.to_json(),
        Item::Omitted(omitted) => omitted.to_json(),
    };
    line.push('\n');
    line
}

async fn refuse(reader: BufReader<OwnedReadHalf>, mut writer: OwnedWriteHalf, why: String) {
    // A client that has left already needs no answer.
    let _ = send(&mut writer, Refusal::new(why).to_json()).await;
    drop(writer);
    // Closing over what it is still sending would reset the connection, and the answer with it.
    let _ = tokio::time::timeout(REQUEST_TIME, hung_up(reader)).await;
}

fn understand(line: &[u8]) -> Result<Request, String> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| format!("the request cannot be read: {error}"))?;
    let Request { schema, .. } = &request;
    if *schema != SCHEMA {
        return Err(format!(
            "the request has schema {schema}, this agent speaks {SCHEMA}: use the same version"
        ));
    }
    Ok(request)
}

/// Groups of hooks are chosen when the programs are loaded.
fn has_groups(ready: &Ready, wanted: &[String]) -> Result<(), String> {
    let missing: Vec<_> = wanted.iter().filter(|w| !ready.groups.contains(w)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(",");
    Err(format!(
        "it was started without the hooks of {missing}: start it with `rstrace agent --with {missing}`"
    ))
}

async fn send(writer: &mut OwnedWriteHalf, mut line: String) -> io::Result<()> {
    line.push('\n');
    writer.write_all(line.as_bytes()).await
}

/// Completes when the client closes; whatever else it sends is passed over.
async fn hung_up(mut reader: BufReader<OwnedReadHalf>) {
    let mut rest = [0; 512];
    while reader.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}
