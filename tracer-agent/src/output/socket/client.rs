//! The watcher's end of the socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::{MAX_LINE, Read, Request, TOO_LONG, Want, read_line};
use crate::output::VerdictView;
use crate::output::audit::AuditView;
use crate::output::selection::Selection;
use crate::output::state::StateView;
use crate::output::text::printable;
use crate::output::view::{HistoryView, Line, Ready};

/// A connection to a running agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Bytes read at once: some dozen lines.
pub(super) const BUFFER: usize = 64 * 1024;

/// What the past comes with.
#[derive(Clone, Debug)]
pub struct Told {
    pub ready: Ready,
    pub history: HistoryView,
}

/// Why there is no stream, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The caller may do the work itself.
    #[error("no agent listens on {path}: start one with `rstrace agent`, or name its --socket")]
    NoAgent { path: PathBuf },
    #[error("not permitted to open {path}: the socket is its owner's alone, so run this as the agent's user")]
    NotPermitted { path: PathBuf },
    #[error("cannot connect to {path}: {error}")]
    Connect { path: PathBuf, error: io::Error },
    #[error("the stream of the agent broke: {0}")]
    Broken(io::Error),
    #[error("the agent has ended")]
    Ended,
    #[error("the agent sent what this version cannot read ({0}): use the same version for both")]
    Unreadable(String),
    #[error("the agent refused: {0}")]
    Refused(String),
}

impl Client {
    /// Connects to the agent at that socket.
    ///
    /// # Errors
    /// [`ClientError::NoAgent`] if nobody listens there.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).await.map_err(|error| {
            let path = path.to_owned();
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoAgent { path },
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path },
                _ => ClientError::Connect { path, error },
            }
        })?;
        Ok(Self { stream: BufReader::with_capacity(BUFFER, stream) })
    }

    /// Asks for the live stream, from an agent that was started with these groups of hooks;
    /// [`Client::next_line`] reads it. If the selection says since when, it begins with what the agent has kept;
    /// it has no end, whatever the selection says.
    ///
    /// # Errors
    /// If the agent has gone.
    pub async fn watch(&mut self, selection: Selection, with: Vec<String>) -> Result<(), ClientError> {
        self.ask(&Request::new(Want::Watch, selection, with)).await
    }

    /// Asks for what the agent has kept; [`Client::next_line`] reads it.
    ///
    /// # Errors
    /// If the agent has gone.
    pub async fn ask_history(&mut self, selection: Selection) -> Result<(), ClientError> {
        self.ask(&Request::new(Want::History, selection, Vec::new())).await
    }

    /// Asks for what the agent has kept, and hands each verdict on, oldest first.
    ///
    /// # Errors
    /// If the agent has gone, or speaks another version.
    pub async fn history(
        self,
        selection: Selection,
        mut take: impl FnMut(VerdictView),
    ) -> Result<Told, ClientError> {
        self.history_lines(selection, |line| serde_json::from_str(line).map(&mut take)).await
    }

    /// The same, with each verdict as the line that it came in.
    ///
    /// # Errors
    /// If the agent has gone, or speaks another version.
    pub async fn history_lines(
        mut self,
        selection: Selection,
        mut take: impl FnMut(&str) -> Result<(), serde_json::Error>,
    ) -> Result<Told, ClientError> {
        self.ask_history(selection).await?;
        let mut begin = None;
        while let Some(text) = self.next_text().await? {
            if Line::is_verdict(&text) {
                take(&text).map_err(|error| unreadable(&error))?;
                continue;
            }
            match (understood(&text)?, begin.take()) {
                (Line::Ready(ready), _) => begin = Some(ready),
                (Line::History(history), Some(ready)) => return Ok(Told { ready, history }),
                (Line::Omitted(_), ready) => begin = ready,
                _ => return Err(unexpected(&text)),
            }
        }
        Err(ClientError::Ended)
    }

    /// Asks what the agent has learned.
    ///
    /// # Errors
    /// If the agent has gone, or speaks another version.
    pub async fn state(mut self) -> Result<StateView, ClientError> {
        self.ask(&Request::new(Want::State, Selection::default(), Vec::new())).await?;
        match self.next_line().await? {
            Some((Line::State(state), _)) => Ok(*state),
            Some((_, text)) => Err(unexpected(&text)),
            None => Err(ClientError::Ended),
        }
    }

    /// Asks what the kernel counted itself, against what the agent saw of it.
    ///
    /// # Errors
    /// If the agent has gone, or speaks another version.
    pub async fn audit(mut self) -> Result<AuditView, ClientError> {
        self.ask(&Request::new(Want::Audit, Selection::default(), Vec::new())).await?;
        match self.next_line().await? {
            Some((Line::Audit(audit), _)) => Ok(*audit),
            Some((_, text)) => Err(unexpected(&text)),
            None => Err(ClientError::Ended),
        }
    }

    /// The stream itself. What had been read of it ahead is lost.
    #[cfg(feature = "top")]
    pub(super) fn into_inner(self) -> UnixStream {
        self.stream.into_inner()
    }

    async fn ask(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut request =
            serde_json::to_string(request).map_err(|error| ClientError::Unreadable(error.to_string()))?;
        request.push('\n');
        self.stream.write_all(request.as_bytes()).await.map_err(ClientError::Broken)
    }

    /// The next line, and as it came; None if the agent has ended the stream.
    ///
    /// # Errors
    /// If the stream breaks, the agent refuses, or it speaks another version.
    pub async fn next_line(&mut self) -> Result<Option<(Line, String)>, ClientError> {
        let Some(text) = self.next_text().await? else { return Ok(None) };
        Ok(Some((understood(&text)?, text)))
    }

    async fn next_text(&mut self) -> Result<Option<String>, ClientError> {
        match read_line(&mut self.stream, MAX_LINE).await {
            Ok(Read::Line(bytes)) => String::from_utf8(bytes).map(Some).map_err(|error| unreadable(&error)),
            Ok(Read::Ended) => Ok(None),
            Ok(Read::TooLong) => Err(ClientError::Unreadable(TOO_LONG.to_owned())),
            Err(error) => Err(ClientError::Broken(error)),
        }
    }
}

/// A line read back; the agent's refusal is an error.
pub(super) fn understood(text: &str) -> Result<Line, ClientError> {
    match Line::parse(text).map_err(|error| unreadable(&error))? {
        Line::Error(refusal) => Err(ClientError::Refused(printable(&refusal.error).into_owned())),
        line => Ok(line),
    }
}

pub(super) fn unreadable(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Unreadable(printable(&error.to_string()).into_owned())
}

/// A line that does not answer what was asked.
fn unexpected(text: &str) -> ClientError {
    ClientError::Unreadable(printable(text.trim()).chars().take(80).collect())
}
