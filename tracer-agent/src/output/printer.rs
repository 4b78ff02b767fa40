//! Prints a live stream on standard output, as lines for people or as JSON, until there is enough of it.
//!
//! The stream comes from the hub of this process or, over the socket, from a running agent; the text is the
//! same.

use std::io;
use std::time::Duration;

use super::hub::{Item, Subscription};
use super::human::Human;
use super::socket::{Client, ClientError};
use super::view::{Line, Ready};
use super::write::{LineWriter, WriteError, stdout_closed};

/// How lines are spelled.
#[derive(Clone, Debug)]
pub enum Format {
    Human(Human),
    Json,
}

/// Writes a stream to standard output.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    out: LineWriter,
}

/// When to stop; without either, never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Verdicts, not lines.
    pub count: Option<u64>,
    pub duration: Option<Duration>,
}

/// Where the lines come from.
#[derive(Debug)]
pub enum Feed {
    /// The hub of this process, and the first line of its stream.
    Own(Ready, Subscription),
    /// A running agent, which sends its own first line.
    Agent(Client),
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Agent(#[from] ClientError),
}

// === impl Format ===

impl Format {
    /// JSON if asked for, else lines for people.
    #[must_use]
    pub fn stdout(json: bool) -> Self {
        if json { Self::Json } else { Self::Human(Human::stdout()) }
    }
}

// === impl Printer ===

impl Printer {
    /// # Errors
    /// If the thread that writes cannot be started.
    pub fn stdout(format: Format) -> io::Result<Self> {
        Ok(Self::new(format, LineWriter::stdout()?))
    }

    #[must_use]
    pub fn new(format: Format, out: LineWriter) -> Self {
        Self { format, out }
    }

    /// The first line of JSON, or the header.
    ///
    /// # Errors
    /// If an earlier line could not be written.
    pub async fn ready(&mut self, ready: &Ready) -> Result<(), WriteError> {
        let line = match &self.format {
            Format::Human(human) => human.header(ready.time),
            Format::Json => ready.to_json(),
        };
        self.out.line(line).await
    }

    /// A line of the stream.
    ///
    /// # Errors
    /// If an earlier line could not be written.
    pub async fn item(&mut self, item: &Item) -> Result<(), WriteError> {
        let line = match (&self.format, item) {
            (Format::Human(human), Item::Verdict(view)) => human.line(view),
            (Format::Human(human), Item::Omitted(omitted)) => human.omitted(omitted),
            (Format::Json, Item::Verdict(view)) => view.to_json(),
            (Format::Json, Item::Omitted(omitted)) => omitted.to_json(),
        };
        self.out.line(line).await
    }

    /// Text of our own between the lines.
    ///
    /// # Errors
    /// If an earlier line could not be written.
    pub async fn note(&mut self, text: impl Into<String>) -> Result<(), WriteError> {
        self.out.line(text.into()).await
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// If something could not be written.
    pub async fn finish(self) -> Result<(), WriteError> {
        self.out.finish().await
    }

    /// Prints a feed until a limit is reached or it ends. Standard output may close at any time, even while
    /// nothing happens: that is [`WriteError::Closed`].
    ///
    /// # Errors
    /// If standard output cannot be written, or the agent's stream breaks.
    pub async fn follow(&mut self, feed: Feed, limits: Limits) -> Result<(), StreamError> {
        let deadline = async {
            match limits.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = self.copy(feed, limits.count.unwrap_or(u64::MAX)) => result,
            () = deadline => Ok(()),
            () = stdout_closed() => Err(WriteError::Closed.into()),
        }
    }

    async fn copy(&mut self, feed: Feed, mut left: u64) -> Result<(), StreamError> {
        match feed {
            Feed::Own(ready, mut subscription) => {
                self.ready(&ready).await?;
                while left > 0 {
                    let Some(item) = subscription.recv().await else { break };
                    self.item(&item).await?;
                    left -= u64::from(matches!(item, Item::Verdict(_)));
                }
            }
            Feed::Agent(mut client) => {
                while left > 0 {
                    let Some((line, json)) = client.next_line().await? else {
                        return Err(ClientError::Ended.into());
                    };
                    if matches!(line, Line::History(_)) {
                        break;
                    }
                    left -= u64::from(matches!(line, Line::Verdict(_)));
                    self.foreign(line, json).await?;
                }
            }
        }
        Ok(())
    }

    /// A line of another agent. As JSON it passes as it came, with keys that this version does not know.
    async fn foreign(&mut self, line: Line, json: String) -> Result<(), WriteError> {
        match (&self.format, line) {
            (Format::Json, _) => self.note(json).await,
            (_, Line::Ready(ready)) => self.ready(&ready).await,
            (_, Line::Verdict(view)) => self.item(&Item::Verdict((*view).into())).await,
            (_, Line::Omitted(omitted)) => self.item(&Item::Omitted(omitted)).await,
            // Nobody asked for the first, the second ends a stream, and the client has made an error of the last.
            (_, Line::Audit(_) | Line::History(_) | Line::State(_) | Line::Error(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};

    use super::*;
    use crate::output::filter::Filter;
    use crate::output::fixture;
    use crate::output::hub::Hub;

    async fn print(limits: Limits, published: usize) -> String {
        let (mut reader, writer) = pipe().unwrap();
        let mut printer = Printer::new(Format::Json, LineWriter::to(writer).unwrap());
        let hub = Hub::default();
        let subscription = hub.subscribe("test", Filter::default(), 16).unwrap();
        let verdict = fixture::oom_killed();
        for _ in 0..published {
            hub.publish(&verdict, &fixture::shared(&verdict));
        }
        let ready = Ready::new(0, &fixture::origin(), Vec::new(), Vec::new());
        printer.follow(Feed::Own(ready, subscription), limits).await.unwrap();
        printer.finish().await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn count_counts_verdicts_and_the_ready_line_is_first() {
        let text = print(Limits { count: Some(2), duration: None }, 3).await;
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(r#"{"schema":1,"kind":"ready","#), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_elapsed_duration_is_an_ordinary_end() {
        let text = print(Limits { count: Some(9), duration: Some(Duration::from_secs(5)) }, 1).await;
        assert_eq!(text.lines().count(), 2);
    }
}
