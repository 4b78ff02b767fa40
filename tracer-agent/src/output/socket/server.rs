//! The agent's end of the socket: one task a reader, none of which can hold up another or the agent.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{MAX_REQUEST, Read, Request, Want, read_line};
use crate::output::hub::{Hub, Item, MAX_READERS};
use crate::output::view::{Ready, Refusal, SCHEMA};

/// Lines that wait for one reader.
const QUEUE: usize = 1024;
/// Connections at one time: readers, and those who have not said yet what they want.
const MAX_CONNECTIONS: usize = MAX_READERS + 16;
/// Within which a client has to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// After an accept failed (no file descriptor left), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 64;

/// A bound socket. Dropping it removes the file.
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
}

struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "an agent is running already and listens on {path}: watch it with `rstrace watch`, or choose another --socket"
    )]
    InUse { path: PathBuf },
    #[error("{path} exists and is no socket: remove it or choose another --socket")]
    NoSocket { path: PathBuf },
    #[error("cannot {action} {path}: {error}; choose another --socket")]
    Io { action: &'static str, path: PathBuf, error: io::Error },
}

// === impl Server ===

impl Server {
    /// Binds, in place of what a killed agent left behind. Clients may connect from now on; they are answered
    /// once [`Server::serve`] runs.
    ///
    /// # Errors
    /// If a live agent has it, or the file system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |action| move |error| BindError::Io { action, path: path.to_owned(), error };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed("create the directory of"))?;
        }
        make_way(path)?;
        let listener = bind_private(path).map_err(failed("listen on"))?;
        let inode = std::fs::metadata(path).map_err(failed("look at"))?.ino();
        let file = SocketFile { path: path.to_owned(), inode };
        let listener = UnixListener::from_std(listener).map_err(failed("listen on"))?;
        Ok(Self { listener, file })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Answers clients for as long as it is polled; dropping the future ends all of them. `ready` makes the
    /// first line of a stream, so it is to be called only when every hook is attached.
    pub async fn serve(self, hub: Hub, ready: impl Fn() -> Ready + Send + Sync + 'static) {
        let ready: Arc<dyn Fn() -> Ready + Send + Sync> = Arc::new(ready);
        let mut connections = JoinSet::new();
        loop {
            // Reaps those that ended, so that the set is as large as what is connected.
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(converse(stream, hub.clone(), Arc::clone(&ready)));
                }
                Ok(_) => tracing::warn!("{MAX_CONNECTIONS} clients on the socket, the next one is refused"),
                Err(error) => {
                    tracing::warn!("cannot accept on {}: {error}", self.file.path.display());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("path", &self.file.path).finish_non_exhaustive()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // By now another agent may have taken the place.
        if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // If it cannot be removed, the next agent finds it stale and replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody listens on; refuses everything else that is in the way.
fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |action| move |error| BindError::Io { action, path: path.to_owned(), error };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NoSocket { path: path.to_owned() });
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        // A full backlog (EAGAIN) is a live agent too.
        _ => Err(BindError::InUse { path: path.to_owned() }),
    }
}

fn bind_private(path: &Path) -> io::Result<StdListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound: it is private from the first moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(StdListener::from(socket))
}

/// One client, from its request until either side has enough.
async fn converse(stream: UnixStream, hub: Hub, ready: Arc<dyn Fn() -> Ready + Send + Sync>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match tokio::time::timeout(REQUEST_TIME, read_line(&mut reader, MAX_REQUEST)).await {
        Ok(Ok(Read::Line(line))) => understand(&line),
        Ok(Ok(Read::TooLong)) => Err(format!("the request is longer than {MAX_REQUEST} bytes")),
        // It has left, or says nothing: there is nobody to answer.
        Ok(Ok(Read::Ended) | Err(_)) | Err(_) => return,
    };
    let subscription = request.and_then(|request| {
        has_groups(&ready(), &request.with)?;
        hub.subscribe("socket", request.filter, QUEUE).map_err(|error| error.to_string())
    });
    let mut subscription = match subscription {
        Ok(subscription) => subscription,
        Err(error) => {
            refuse(reader, writer, error).await;
            return;
        }
    };
    let stream = async {
        send(&mut writer, ready().to_json()).await?;
        while let Some(item) = subscription.recv().await {
            let line = match item {
                Item::Verdict(view) => view.to_json(),
                Item::Omitted(omitted) => omitted.to_json(),
            };
            send(&mut writer, line).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        // Either way the client is gone; what it does not read harms nobody.
        _ = stream => {}
        () = hung_up(reader) => {}
    }
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
    let Request { schema, want: Want::Watch, .. } = &request;
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
