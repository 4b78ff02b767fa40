//! `rstrace record`: what the kernel says, in a file; and the same beside `rstrace watch --record`.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::netns::inum;
use super::told_to_stop;
use crate::agent::Agent;
use crate::cli::{Global, RecordArgs};
use crate::kernel::{Kernel, Options};
use crate::output::filter::Filter;
use crate::output::hub::{Item, Subscription, Why};
use crate::recording::{RecordError, Recorder, Written};

/// Verdicts that wait to be counted.
const QUEUE: usize = 4096;
/// How long the last lines may take to reach the file.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Records until a limit is reached, the reader has gone, or it is told to stop.
pub(super) async fn run(args: &RecordArgs, global: &Global) -> anyhow::Result<()> {
    let vantage = args.vantage.as_ref().map(inum).transpose()?;
    // Who may not load the programs must not empty a file either.
    Kernel::supported()?;
    let (recorder, mut written) =
        if args.file == Path::new("-") { Recorder::stdout()? } else { Recorder::file(&args.file)? };
    let options = Options { vantage, groups: args.with.groups(), debug_programs: global.debug_programs };
    let agent = Agent::start_recorded(&options, args.names.sources(), recorder)?;
    let filter = Filter { all: args.all, ..Filter::default() };
    let verdicts = agent.hub().subscribe("recording", filter, QUEUE)?;
    let count = args.count.map(std::num::NonZeroU64::get);
    tokio::select! {
        done = agent.run() => return done.context("the agent stopped"),
        () = counted(verdicts, count.unwrap_or(u64::MAX)) => {}
        () = elapsed(args.duration) => {}
        error = written.failed() => return ended(error),
        done = told_to_stop() => done.context("cannot wait for signals")?,
    }
    finish(written).await
}

/// Waits for the last lines of a recording whose agent has gone.
pub(super) async fn finish(written: Written) -> anyhow::Result<()> {
    let done = tokio::time::timeout(LAST_LINES, written.finish()).await;
    done.context("the last lines of the recording could not be written in time")?.or_else(ended)
}

/// A reader that has gone is an ordinary end.
pub(super) fn ended(error: RecordError) -> anyhow::Result<()> {
    if matches!(error, RecordError::Closed) { Ok(()) } else { Err(error.into()) }
}

async fn counted(mut verdicts: Subscription, mut left: u64) {
    while left > 0 {
        match verdicts.recv().await {
            Some(Item::Verdict(_)) => left -= 1,
            Some(Item::Omitted(omitted)) if omitted.why == Why::SlowReader.text() => {
                left = left.saturating_sub(omitted.count);
            }
            // What the kernel lost was no verdict.
            Some(Item::Omitted(_)) => {}
            None => return pending().await,
        }
    }
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => pending().await,
    }
}
