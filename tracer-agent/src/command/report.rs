//! `rstrace report`: the incident on one page, from what the running agent remembers or what its journal holds.

use std::io::Write as _;
use std::path::Path;

use super::say;
use super::selection::selection;
use crate::cli::ReportArgs;
use crate::output::human::stdout_columns;
use crate::output::journal::{self, JournalError};
use crate::output::report::{Asked, Builder, Page, Report, Seen};
use crate::output::selection::Selection;
use crate::output::socket::{Client, ClientError};
use crate::output::state::StateView;
use crate::output::write::WriteError;

/// Asks the agent, counts, and prints.
pub(super) async fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let (selection, now) = selection(&args.filter)?;
    let zone = now.time_zone().clone();
    let report = match &args.journal {
        Some(path) => made_of_journal(path, selection, &now)?,
        None => made(&args.socket, selection, &now).await?,
    };
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

/// The report of what a journal holds.
fn made_of_journal(path: &Path, selection: Selection, now: &jiff::Zoned) -> Result<Report, JournalError> {
    let mut builder = Builder::default();
    let mut host = None;
    let skipped = journal::read(path, &selection, |view| {
        builder.take(&Seen::from(&view));
        host = Some(view.host);
    })?;
    if !skipped.is_nothing() {
        say(&format_args!("the journal {}: {skipped}", path.display()));
    }
    let host = host.unwrap_or_else(|| "unknown host".to_owned());
    let asked = Asked { host, time: now.timestamp(), zone: now.time_zone().clone(), selection };
    Ok(builder.finish(asked, None, None))
}

/// What the agent has learned; None of one that is too old to say.
async fn learned(socket: &Path) -> Result<Option<StateView>, ClientError> {
    match Client::connect(socket).await?.state().await {
        Ok(state) => Ok(Some(state)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
