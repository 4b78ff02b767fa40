//! The stream of the agent, asked for again whenever it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::output::selection::Selection;
use crate::output::socket::{Client, ClientError, Gulps};
use crate::output::state::UpstreamState;
use crate::output::view::Line;
use crate::output::{Omitted, Ready, VerdictView};

/// Reads that the screen may be behind; further lines wait in the agent, which counts what it has to leave out.
const QUEUE: usize = 16;

/// How long lines gather before they are read: a wake-up for each costs more than the line. Longer than one frame would
/// be seen, and whoever ends this waits for it.
const GATHER: Duration = Duration::from_millis(50);

/// A read of so many lines was of a flood: then the next ones may not wait, or the agent would have to leave some out.
const FLOOD: usize = 32;

/// How long until an agent that has gone is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Between two questions for what the agent has learned.
const LESSONS: Duration = Duration::from_secs(5);

/// What comes from the agent.
pub(super) enum Told {
    Ready(Box<Ready>),
    Verdict(Box<VerdictView>),
    Omitted(Omitted),
    /// What the agent has learned of its upstreams.
    Learned(Vec<UpstreamState>),
    /// There is no stream until the next `Ready`.
    Gone(String),
}

/// Tasks that ask and listen. Dropping it ends them.
pub(super) struct Feed {
    pub(super) told: mpsc::Receiver<Vec<Told>>,
    tasks: [JoinHandle<()>; 2],
}

/// Nobody reads any more.
struct Unread;

impl Feed {
    /// Begins with a connection that there is already, if there is one.
    pub(super) fn start(first: Option<Client>, socket: &Path, selection: Selection) -> Self {
        let (tell, told) = mpsc::channel(QUEUE);
        let learning = tokio::spawn(learn(socket.to_owned(), tell.clone()));
        let asking = Asking { socket: socket.to_owned(), selection, tell, newest: None };
        Self { told, tasks: [tokio::spawn(asking.go_on(first)), learning] }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Asks again and again. Where there is no answer the stream says why.
async fn learn(socket: PathBuf, tell: mpsc::Sender<Vec<Told>>) {
    loop {
        if let Ok(client) = Client::connect(&socket).await
            && let Ok(state) = client.state().await
            && tell.send(vec![Told::Learned(state.upstreams)]).await.is_err()
        {
            return;
        }
        tokio::time::sleep(LESSONS).await;
    }
}

struct Asking {
    socket: PathBuf,
    selection: Selection,
    tell: mpsc::Sender<Vec<Told>>,
    newest: Option<Timestamp>,
}

impl Asking {
    async fn go_on(mut self, mut first: Option<Client>) {
        loop {
            let error = match self.listen(first.take()).await {
                Ok(Unread) => return,
                Err(error) => error,
            };
            if self.tell.send(vec![Told::Gone(error.to_string())]).await.is_err() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn listen(&mut self, client: Option<Client>) -> Result<Unread, ClientError> {
        let mut client = match client {
            Some(client) => client,
            None => Client::connect(&self.socket).await?,
        };
        let mut selection = self.selection.clone();
        if let Some(newest) = self.newest {
            // What was counted before the stream broke is not counted again.
            selection.span.since = newest.checked_add(SignedDuration::from_nanos(1)).ok();
        }
        client.watch(selection, Vec::new()).await?;
        let (gulps, _hang_up) = Gulps::of(client)?;
        let (tell, mut newest) = (self.tell.clone(), self.newest);
        let reading = tokio::task::spawn_blocking(move || {
            let ended = read(gulps, &tell, &mut newest);
            (ended, newest)
        });
        // It ends with the stream, and that with this.
        let (ended, newest) = reading.await.map_err(|error| ClientError::Broken(error.into()))?;
        self.newest = newest;
        ended
    }
}

/// Hands on what comes, until nobody reads any more or the stream ends.
fn read(
    mut gulps: Gulps,
    tell: &mpsc::Sender<Vec<Told>>,
    newest: &mut Option<Timestamp>,
) -> Result<Unread, ClientError> {
    loop {
        let lines = gulps.next_lines()?;
        if lines.is_empty() {
            return Err(ClientError::Ended);
        }
        let pause = if lines.len() < FLOOD { GATHER } else { Duration::ZERO };
        let told: Vec<_> = lines.into_iter().filter_map(told).collect();
        let times = told
            .iter()
            .filter_map(|told| if let Told::Verdict(view) = told { Some(view.time) } else { None });
        *newest = times.max().max(*newest);
        if tell.blocking_send(told).is_err() {
            return Ok(Unread);
        }
        std::thread::sleep(pause);
    }
}

/// None of what nobody has asked for.
fn told(line: Line) -> Option<Told> {
    Some(match line {
        Line::Ready(ready) => Told::Ready(Box::new(ready)),
        Line::Verdict(view) => Told::Verdict(view),
        Line::Omitted(omitted) => Told::Omitted(omitted),
        _ => return None,
    })
}
