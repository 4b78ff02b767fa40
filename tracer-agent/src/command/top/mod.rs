//! `rstrace top`: which upstreams lose requests, from the running agent.

#[cfg(feature = "top")]
mod feed;
#[cfg(feature = "top")]
mod live;

use std::io::IsTerminal as _;

use jiff::{SignedDuration, Timestamp};

use super::Usage;
use super::selection::selection;
use crate::cli::TopArgs;
use crate::output::human::stdout_columns;
use crate::output::selection::Selection;
use crate::output::socket::Client;
use crate::output::write::LineWriter;
use crate::top::board::Board;
use crate::top::plain;
use crate::top::row::{Order, Row};

/// Without `--since`: so that it answers for the time before somebody came.
const SINCE: SignedDuration = SignedDuration::from_mins(15);

/// Prints the table, or shows it until it is told to stop.
pub(super) async fn run(args: &TopArgs) -> anyhow::Result<()> {
    let (mut selection, now) = selection(&args.filter)?;
    let now = now.timestamp();
    let since = *selection.span.since.get_or_insert(now.saturating_sub(SINCE)?);
    if args.once || args.json {
        return once(args, selection, now).await;
    }
    if !std::io::stdout().is_terminal() {
        let why =
            "standard output is no terminal: `rstrace top --once` prints the table as text, `--json` as JSON";
        return Err(Usage(why.to_owned()).into());
    }
    if selection.span.until.is_some() {
        let why = "the screen shows this moment: leave out --until, or print the table with --once";
        return Err(Usage(why.to_owned()).into());
    }
    on_screen(args, selection, since).await
}

/// What the agent has kept, as a table.
async fn once(args: &TopArgs, selection: Selection, now: Timestamp) -> anyhow::Result<()> {
    let client = Client::connect(&args.socket).await?;
    let mut board = Board::default();
    client.history(selection, |view| board.take(view)).await?;
    board.learn(Client::connect(&args.socket).await?.state().await?.upstreams);
    let lines = if args.json {
        board.rows(now, Order::default(), &[]).iter().map(Row::to_json).collect()
    } else {
        plain::table(&board, now, stdout_columns())
    };
    let mut out = LineWriter::stdout()?;
    for line in lines {
        out.line(line).await?;
    }
    Ok(out.finish().await?)
}

#[cfg(feature = "top")]
async fn on_screen(args: &TopArgs, selection: Selection, since: Timestamp) -> anyhow::Result<()> {
    live::run(&args.socket, selection, since).await
}

#[cfg(not(feature = "top"))]
async fn on_screen(_: &TopArgs, _: Selection, _: Timestamp) -> anyhow::Result<()> {
    let why = "this rstrace was built without the screen (cargo feature `top`): `--once` and `--json` print the table";
    Err(anyhow::Error::msg(why))
}
