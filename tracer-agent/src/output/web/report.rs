//! The report of what is kept, made when it is asked for.

use jiff::Zoned;

use crate::output::history::{Corrupt, Past};
use crate::output::report::{Asked, Builder, Report, Seen};
use crate::output::selection::Selection;
use crate::output::state::StateView;
use crate::output::view::HistoryView;

/// Reads all of the past that is wanted: some hundred milliseconds for as much as is kept.
pub fn report(
    past: &Past,
    selection: Selection,
    host: String,
    now: &Zoned,
    state: Option<StateView>,
) -> Result<Report, Corrupt> {
    let mut builder = Builder::default();
    for block in &past.blocks {
        for line in block.lines(&selection)?.lines() {
            // Each is a line that this process wrote.
            if let Ok(seen) = Seen::parse(line) {
                builder.take(&seen);
            }
        }
    }
    let asked = Asked { host, time: now.timestamp(), zone: now.time_zone().clone(), selection };
    Ok(builder.finish(asked, Some(&HistoryView::new(past.extent)), state))
}
