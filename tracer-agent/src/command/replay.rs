//! `rstrace replay`: the verdicts of a recording, as `watch` showed or would have shown them. Needs no kernel.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use super::say;
use super::selection::selection;
use crate::cli::ReplayArgs;
use crate::output::hub::Item;
use crate::output::printer::{Format, Printer};
use crate::output::selection::Selection;
use crate::output::text::printable;
use crate::recording::Replay;

/// Prints the verdicts of a file.
pub(super) async fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let (selection, _) = selection(&args.filter)?;
    let name = args.file.display().to_string();
    let input: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot open {}", printable(&name)))?;
        Box::new(BufReader::new(file))
    };
    let mut replay = Replay::new(input, if name == "-" { "standard input" } else { &name })?;
    let mut printer = Printer::stdout(Format::stdout(args.json))?;
    let shown = show(&mut replay, &selection, args.count, &mut printer).await;
    // What was judged before an error is shown before it.
    printer.finish().await?;
    for remark in replay.remarks() {
        say(&remark);
    }
    shown
}

async fn show(
    replay: &mut Replay<impl BufRead>,
    selection: &Selection,
    count: Option<NonZeroU64>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    printer.ready(&replay.header().ready()).await?;
    let mut left = count.map_or(u64::MAX, NonZeroU64::get);
    while left > 0
        && let Some((verdict, view)) = replay.next_verdict()?
    {
        if selection.span.holds(view.time) && selection.filter.shows(&verdict, &view) {
            printer.item(&Item::Verdict(Arc::new(view))).await?;
            left -= 1;
        }
    }
    Ok(())
}
