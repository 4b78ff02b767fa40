//! The lines of one answer: what the agent is, the past block by block, and from there on what comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::output::history::{Block, Past};
use crate::output::hub::{Item, Subscription};
use crate::output::selection::Selection;
use crate::output::view::{HistoryView, Refusal};

/// For so long lines are gathered, so that a flood comes in tens of pieces a second and not in thousands.
const GATHER: Duration = Duration::from_millis(40);
/// Lines of one piece.
const PIECE: usize = 256;

/// One answer.
#[derive(Debug)]
pub struct Feed {
    /// The first line.
    head: Option<String>,
    blocks: std::vec::IntoIter<Arc<Block>>,
    /// The last line of the past.
    extent: Option<HistoryView>,
    selection: Arc<Selection>,
    live: Option<Subscription>,
    /// Its place among the answers that are under way.
    _place: OwnedSemaphorePermit,
}

// === impl Feed ===

impl Feed {
    pub fn new(
        head: Option<String>,
        past: Past,
        selection: Selection,
        live: Option<Subscription>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            head,
            blocks: past.blocks.into_iter(),
            extent: Some(HistoryView::new(past.extent)),
            selection: Arc::new(selection),
            live,
            _place: place,
        }
    }

    /// Its pieces: lines without the last line feed.
    pub fn pieces(self) -> impl Stream<Item = String> + Send {
        stream::unfold(self, |mut feed| async move { feed.next().await.map(|piece| (piece, feed)) })
    }

    async fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        while let Some(block) = self.blocks.next() {
            let mut lines = self.read(block).await;
            if lines.pop().is_some() {
                return Some(lines);
            }
        }
        if let Some(extent) = self.extent.take() {
            return Some(extent.to_json());
        }
        self.gather().await
    }

    async fn read(&self, block: Arc<Block>) -> String {
        let selection = Arc::clone(&self.selection);
        // The other pages have to get on meanwhile.
        let read = tokio::task::spawn_blocking(move || block.lines(&selection)).await;
        let failed = |error: &dyn std::fmt::Display| Refusal::new(error.to_string()).to_json() + "\n";
        match read {
            Ok(Ok(lines)) => lines,
            Ok(Err(error)) => failed(&error),
            Err(error) => failed(&error),
        }
    }

    async fn gather(&mut self) -> Option<String> {
        let live = self.live.as_mut()?;
        let mut piece = line(&live.recv().await?);
        tokio::time::sleep(GATHER).await;
        for _ in 1..PIECE {
            let Some(Some(item)) = live.recv().now_or_never() else { break };
            piece.push('\n');
            piece.push_str(&line(&item));
        }
        Some(piece)
    }
}

fn line(item: &Item) -> String {
    match item {
        Item::Verdict(view) => view.to_json(),
        Item::Omitted(omitted) => omitted.to_json(),
    }
}
