//! `rstrace watch`: live verdicts, from the running agent, else from programs of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::netns::inum;
use super::selection::selection;
use super::{Usage, record, told_to_stop};
use crate::agent::Agent;
use crate::cli::{Global, WatchArgs};
use crate::enrich::Sources;
use crate::kernel::{Kernel, Options};
use crate::output::filter::Filter;
use crate::output::printer::{Feed, Format, Limits, Printer};
use crate::output::socket::{Client, ClientError};
use crate::recording::{RecordError, Recorder, Written};

/// Lines that the terminal may be behind.
const QUEUE: usize = 4096;
/// How long the last lines may take after ctrl-C.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Prints until a limit is reached, the reader has gone, or it is told to stop.
pub(super) async fn run(args: &WatchArgs, global: &Global) -> anyhow::Result<()> {
    let (selection, now) = selection(&args.filter)?;
    let until = selection.span.until.map(|until| until.duration_since(now.timestamp()));
    let limits = args.limits(until);
    let vantage = args.vantage.as_ref().map(inum).transpose()?;
    if args.record.as_deref() == Some(Path::new("-")) {
        let why =
            "`watch --record` needs a file, since verdicts take standard output: use `rstrace record -`";
        return Err(Usage(why.to_owned()).into());
    }
    let (recorder, mut written) = match &args.record {
        Some(path) => {
            // Who may not load the programs must not empty a file either.
            Kernel::supported()?;
            let (recorder, written) = Recorder::file(path)?;
            (Some(recorder), Some(written))
        }
        None => (None, None),
    };
    let options = Options { vantage, groups: args.with.groups(), debug_programs: global.debug_programs };
    let mut printer = Printer::stdout(Format::stdout(args.json))?;
    let work = async {
        match running_agent(args).await? {
            Some(mut client) => {
                let with = args.with.groups().iter().map(|group| group.name().to_owned()).collect();
                if until.is_some_and(|until| !until.is_positive()) {
                    client.ask_history(selection).await?;
                } else {
                    client.watch(selection, with).await?;
                }
                printer.follow(Feed::Agent(client), limits).await?;
            }
            None if selection.span.since.is_some() => return Err(no_past(args)),
            None => {
                own(&options, args.names.sources(), selection.filter, limits, recorder, &mut printer).await?;
            }
        }
        anyhow::Ok(())
    };
    let stopped = tokio::select! {
        done = work => {
            done?;
            false
        }
        done = told_to_stop() => {
            done.context("cannot wait for signals")?;
            true
        }
        error = no_more_written(&mut written) => return record::ended(error),
    };
    if stopped {
        // Whoever stopped us does not wait for a reader that has stopped as well.
        let _ = tokio::time::timeout(LAST_LINES, printer.finish()).await;
    } else {
        printer.finish().await?;
    }
    match written {
        Some(written) => record::finish(written).await,
        None => Ok(()),
    }
}

/// Completes when the recording fails; never where there is none.
async fn no_more_written(written: &mut Option<Written>) -> RecordError {
    match written {
        Some(written) => written.failed().await,
        None => std::future::pending().await,
    }
}

/// The agent to ask, if one listens and may see what is asked for.
async fn running_agent(args: &WatchArgs) -> anyhow::Result<Option<Client>> {
    if args.vantage.is_some() || args.record.is_some() {
        return Ok(None);
    }
    match Client::connect(&args.socket).await {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoAgent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Only an agent that ran knows what was.
fn no_past(args: &WatchArgs) -> anyhow::Error {
    if args.vantage.is_some() || args.record.is_some() {
        let why = "--since asks a running agent for its past, and --vantage and --record load the programs anew: \
                   leave one of them out";
        return Usage(why.to_owned()).into();
    }
    ClientError::NoAgent { path: args.socket.clone() }.into()
}

/// Loads the programs for this command alone.
async fn own(
    options: &Options,
    sources: Sources,
    filter: Filter,
    limits: Limits,
    recorder: Option<Recorder>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let agent = match recorder {
        Some(recorder) => Agent::start_recorded(options, sources, recorder)?,
        None => Agent::start(options, sources)?,
    };
    let subscription = agent.hub().subscribe("stdout", filter, QUEUE)?;
    let feed = Feed::Own(agent.started(), subscription);
    tokio::select! {
        done = agent.run() => done.context("the agent stopped"),
        done = printer.follow(feed, limits) => Ok(done?),
    }
}
