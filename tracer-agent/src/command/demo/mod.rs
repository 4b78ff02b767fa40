//! `rstrace demo`: breaks a few connections on loopback, each in another way, and shows what is said of it.
//!
//! The servers are processes of their own (this program again, see `demo::part`), since it is their ends that
//! are to be told apart. The verdicts come through the same stream that every watcher reads.

mod part;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

pub(super) use part::play;
use stage::Stage;

use super::told_to_stop;
use crate::agent::Agent;
use crate::cli::{Ending, Global};
use crate::enrich::Sources;
use crate::kernel::Options;
use crate::output::filter::Filter;
use crate::output::hub::{Hub, Item, Subscription};
use crate::output::printer::{Format, Printer};
use crate::output::view::{Ready, VerdictView};
use crate::output::write::{WriteError, stdout_closed};
use crate::verdict::Cause;

/// Within which a verdict has to come; it usually takes a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Within which all has to be over.
const WHOLE: Duration = Duration::from_secs(14);
/// More lines than one connection can cause.
const QUEUE: usize = 16;

/// One way to break a connection, and what is to be said of it.
#[derive(Clone, Copy, Debug)]
struct Break {
    told: &'static str,
    ending: Ending,
    cause: Cause,
}

const BREAKS: [Break; 7] = [
    Break {
        told: "connecting to a port that its server has just left",
        ending: Ending::Leave,
        cause: Cause::NoListener,
    },
    Break {
        told: "killing the server while it works on a request",
        ending: Ending::Wait,
        cause: Cause::ProcessKilled,
    },
    Break {
        told: "the server exits with code 3 in the middle of a request",
        ending: Ending::Exit,
        cause: Cause::ProcessExited,
    },
    Break {
        told: "the server closes without an answer, and lives on",
        ending: Ending::Close,
        cause: Cause::ClosedWithoutResponse,
    },
    Break {
        told: "the server resets the connection on purpose (SO_LINGER 0)",
        ending: Ending::Reset,
        cause: Cause::ResetWithoutResponse,
    },
    Break {
        told: "the server closes without having read the request",
        ending: Ending::CloseUnread,
        cause: Cause::ClosedUnreadData,
    },
    Break {
        told: "the server resets in the middle of its answer",
        ending: Ending::ResetHalfway,
        cause: Cause::ResetMidResponse,
    },
];

/// How the demo went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Connections that were broken.
    pub broken: usize,
    /// Verdicts that said what had been done.
    pub right: usize,
}

impl Outcome {
    fn is_success(self) -> bool {
        self.broken == self.right
    }
}

/// Not every verdict was the right one; the demo has said which.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} of {} verdicts are missing or wrong: `rstrace doctor` says what this kernel lacks, and many other \
     failures at the same time can crowd events out of the ring buffer: then try again",
    .0.broken - .0.right, .0.broken
)]
struct Incomplete(Outcome);

/// `rstrace demo`: loads the programs for itself, whether an agent runs or not.
///
/// # Errors
/// If they cannot be loaded, and if a verdict was not the right one.
pub(super) async fn command(global: &Global) -> Result<()> {
    let options = Options { debug_programs: global.debug_programs, ..Options::default() };
    let agent = Agent::start(&options, Sources::default())?;
    let ready = agent.ready()();
    let hub = agent.hub();
    let mut printer = Printer::stdout(Format::stdout(false))?;
    let outcome = tokio::select! {
        done = agent.run() => return done.context("the agent stopped"),
        done = run(&ready, &hub, &mut printer) => done?,
        done = told_to_stop() => return done.context("cannot wait for signals"),
        () = stdout_closed() => return Err(WriteError::Closed.into()),
    };
    printer.finish().await?;
    if outcome.is_success() { Ok(()) } else { Err(Incomplete(outcome).into()) }
}

/// Breaks the connections one by one and prints what is said of each. Returns when all is told.
///
/// # Errors
/// If loopback cannot be used, this program cannot be started again, or standard output is closed
/// ([`crate::output::write::WriteError`] in the chain).
async fn run(ready: &Ready, hub: &Hub, printer: &mut Printer) -> Result<Outcome> {
    let start = Instant::now();
    let mut outcome = Outcome::default();
    let count = BREAKS.len();
    printer
        .note(format!("Breaking {count} connections on loopback. Below each: what rstrace says of it.\n"))
        .await?;
    printer.ready(ready).await?;
    for (i, what) in BREAKS.into_iter().enumerate() {
        printer.note(format!("\n{} of {count}: {}", i + 1, what.told)).await?;
        let deadline = (Instant::now() + PATIENCE).min(start + WHOLE);
        outcome.broken += 1;
        outcome.right += usize::from(show(what, deadline, hub, printer).await?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let Outcome { broken, right } = outcome;
    printer.note(format!("\n{right} of {broken} verdicts are right, after {seconds:.1} s.")).await?;
    if outcome.is_success() {
        let next = "Next: `rstrace watch` shows this for every upstream connection of this host, \
                    `rstrace agent` also serves it as metrics.";
        printer.note(next).await?;
    }
    Ok(outcome)
}

/// Breaks one connection and prints its verdict; whether it was the right one.
async fn show(what: Break, deadline: Instant, hub: &Hub, printer: &mut Printer) -> Result<bool> {
    let stage = blocking(move || Stage::set(what.ending)).await?;
    let upstream = stage.upstream();
    // For this address alone: whatever else breaks on this host at this moment cannot fill the queue.
    let filter = Filter { upstream: vec![upstream.into()], ..Filter::default() };
    let mut watch = hub.subscribe("demo", filter, QUEUE)?;
    let stage = blocking(move || stage.play()).await?;
    let verdict = tokio::time::timeout_at(deadline, next_verdict(&mut watch)).await;
    // Until now the server had to live on.
    drop(stage);
    let Ok(Some(view)) = verdict else {
        printer.note(format!("  no verdict on {upstream} came in time (expected {})", what.cause)).await?;
        return Ok(false);
    };
    let right = view.cause == what.cause;
    printer.item(&Item::Verdict(view)).await?;
    if !right {
        printer.note(format!("  expected {}", what.cause)).await?;
    }
    Ok(right)
}

async fn blocking(work: impl FnOnce() -> Result<Stage> + Send + 'static) -> Result<Stage> {
    let done = tokio::task::spawn_blocking(work).await.context("a thread of the demo ended")?;
    done.context("cannot break a connection on loopback")
}

async fn next_verdict(watch: &mut Subscription) -> Option<Arc<VerdictView>> {
    loop {
        match watch.recv().await? {
            Item::Verdict(view) => return Some(view),
            Item::Omitted(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
