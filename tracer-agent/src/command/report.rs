//! `rstrace report`: the incident on one page, from what the running agent remembers or what its journal holds.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use jiff::Zoned;

use super::say;
use super::selection::selection;
use crate::cli::ReportArgs;
use crate::output::human::stdout_columns;
use crate::output::journal::{self, JournalError};
use crate::output::page;
use crate::output::report::{Asked, Builder, Page, Report, Seen};
use crate::output::selection::Selection;
use crate::output::socket::{Client, ClientError};
use crate::output::state::StateView;
use crate::output::text::printable;
use crate::output::write::WriteError;

/// Verdicts that a page for a browser holds, the last ones: some 3 MB.
const PAGE_LINES: usize = 2_000;

/// What the verdicts are counted by, and the last lines of them if a page is to be made.
#[derive(Default)]
struct Counting {
    builder: Builder,
    lines: VecDeque<String>,
    keep: usize,
}

/// Asks the agent, counts, and prints.
pub(super) async fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let (selection, now) = selection(&args.filter)?;
    let zone = now.time_zone().clone();
    let keep = if args.html.is_some() { PAGE_LINES } else { 0 };
    let mut counting = Counting { keep, ..Counting::default() };
    let report = match &args.journal {
        Some(path) => made_of_journal(path, selection, &now, &mut counting)?,
        None => made(&args.socket, selection, &now, &mut counting).await?,
    };
    if let Some(path) = &args.html {
        let page = page::standalone(&report.to_json(), counting.lines.iter().map(String::as_str));
        let name = path.display().to_string();
        std::fs::write(path, page).with_context(|| format!("cannot write {}", printable(&name)))?;
        if !args.json {
            say(&format_args!("wrote {}", printable(&name)));
            return Ok(());
        }
    }
    let text =
        if args.json { report.to_json() + "\n" } else { Page::new(&report, zone, stdout_columns()).text() };
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(WriteError::from)?;
    Ok(())
}

impl Counting {
    fn keep(&mut self, line: impl FnOnce() -> String) {
        if self.keep > 0 {
            if self.lines.len() == self.keep {
                self.lines.pop_front();
            }
            self.lines.push_back(line());
        }
    }
}

/// The report of what the agent at that socket remembers.
async fn made(
    socket: &Path,
    selection: Selection,
    now: &Zoned,
    counting: &mut Counting,
) -> Result<Report, ClientError> {
    let take = |line: &str| {
        counting.builder.take(&Seen::parse(line)?);
        counting.keep(|| line.trim_end().to_owned());
        Ok(())
    };
    let told = Client::connect(socket).await?.history_lines(selection.clone(), take).await?;
    let state = learned(socket).await?;
    let asked =
        Asked { host: told.ready.host, time: now.timestamp(), zone: now.time_zone().clone(), selection };
    Ok(std::mem::take(&mut counting.builder).finish(asked, Some(&told.history), state))
}

/// The report of what a journal holds.
fn made_of_journal(
    path: &Path,
    selection: Selection,
    now: &Zoned,
    counting: &mut Counting,
) -> Result<Report, JournalError> {
    let mut host = None;
    let skipped = journal::read(path, &selection, |view| {
        counting.builder.take(&Seen::from(&view));
        counting.keep(|| view.to_json());
        host = Some(view.host);
    })?;
    if !skipped.is_nothing() {
        say(&format_args!("the journal {}: {skipped}", path.display()));
    }
    let host = host.unwrap_or_else(|| "unknown host".to_owned());
    let asked = Asked { host, time: now.timestamp(), zone: now.time_zone().clone(), selection };
    Ok(std::mem::take(&mut counting.builder).finish(asked, None, None))
}

/// What the agent has learned; None of one that is too old to say.
async fn learned(socket: &Path) -> Result<Option<StateView>, ClientError> {
    match Client::connect(socket).await?.state().await {
        Ok(state) => Ok(Some(state)),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
