//! `rstrace report`: the incident on one page, from what the running agent remembers.

use std::io::Write as _;
use std::path::Path;

use super::selection::selection;
use crate::cli::ReportArgs;
use crate::output::human::stdout_columns;
use crate::output::report::{Asked, Builder, Page, Report, Seen};
use crate::output::selection::Selection;
use crate::output::socket::{Client, ClientError};
use crate::output::state::StateView;
use crate::output::write::WriteError;

/// Asks the agent, counts, and prints.
pub(super) async fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let (selection, now) = selection(&args.filter)?;
    let zone = now.time_zone().clone();
    let report = made(&args.socket, selection, &now).await?;
    let text =
        if args.json { report.to_json() + "\n" } else { Page::new(&report, zone, stdout_columns()).text() };
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(WriteError::from)?;
    Ok(())
}

/// The report of what the agent at that socket remembers.
async fn made(socket: &Path, selection: Selection, now: &jiff::Zoned) -> Result<Report, ClientError> {
    let mut builder = Builder::default();
    let take = |line: &str| {
        builder.take(&Seen::parse(line)?);
        Ok(())
    };
    let told = Client::connect(socket).await?.history_lines(selection.clone(), take).await?;
    let state = learned(socket).await?;
    let asked =
        Asked { host: told.ready.host, time: now.timestamp(), zone: now.time_zone().clone(), selection };
    Ok(builder.finish(asked, Some(&told.history), state))
}

/// What the agent has learned; None of one that is too old to say.
async fn learned(socket: &Path) -> Result<Option<StateView>, ClientError> {
    match Client::connect(socket).await?.state().await {
        Ok(state) => Ok(Some(state)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
