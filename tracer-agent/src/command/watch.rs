//! `rstrace watch`: live verdicts, from the running agent, else from programs of its own.

use std::time::Duration;

use anyhow::Context as _;

use super::netns::inum;
use super::told_to_stop;
use crate::agent::Agent;
use crate::cli::{Global, WatchArgs};
use crate::kernel::Options;
use crate::output::filter::Filter;
use crate::output::printer::{Feed, Format, Printer};
use crate::output::socket::{Client, ClientError};

/// Lines that the terminal may be behind.
const QUEUE: usize = 4096;
/// How long the last lines may take after ctrl-C.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Prints until a limit is reached, the reader has gone, or it is told to stop.
pub(super) async fn run(args: &WatchArgs, global: &Global) -> anyhow::Result<()> {
    let netns = args.filter.netns.iter().map(inum).collect::<Result<_, _>>()?;
    let filter = args.filter.filter(netns);
    let vantage = args.vantage.as_ref().map(inum).transpose()?;
    let mut printer = Printer::stdout(Format::stdout(args.json))?;
    let work = async {
        match running_agent(args, vantage).await? {
            Some(mut client) => {
                let with = args.with.groups().iter().map(|group| group.name().to_owned()).collect();
                client.watch(filter, with).await?;
                printer.follow(Feed::Agent(client), args.limits()).await?;
            }
            None => own(args, global, filter, vantage, &mut printer).await?,
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
    };
    if stopped {
        // Whoever stopped us does not wait for a reader that has stopped as well.
        let _ = tokio::time::timeout(LAST_LINES, printer.finish()).await;
        return Ok(());
    }
    Ok(printer.finish().await?)
}

/// The agent to ask, if one listens and may see what is asked for.
async fn running_agent(args: &WatchArgs, vantage: Option<u32>) -> anyhow::Result<Option<Client>> {
    if vantage.is_some() {
        return Ok(None);
    }
    match Client::connect(&args.socket).await {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoAgent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Loads the programs for this command alone.
async fn own(
    args: &WatchArgs,
    global: &Global,
    filter: Filter,
    vantage: Option<u32>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let groups = args.with.groups();
    let agent = Agent::start(&Options { vantage, groups, debug_programs: global.debug_programs })?;
    let subscription = agent.hub().subscribe("stdout", filter, QUEUE)?;
    let feed = Feed::Own(agent.ready()(), subscription);
    tokio::select! {
        done = agent.run() => done.context("the agent stopped"),
        done = printer.follow(feed, args.limits()) => Ok(done?),
    }
}
