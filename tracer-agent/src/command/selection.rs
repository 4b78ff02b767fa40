//! What the filter options mean on this host: network namespaces and moments looked up.

use jiff::Zoned;

use super::Usage;
use super::netns::inum;
use crate::cli::{self, FilterArgs};
use crate::output::selection::Selection;

/// The selection, and the moment at which it was made.
pub(super) fn selection(args: &FilterArgs) -> Result<(Selection, Zoned), Usage> {
    let now = cli::now();
    let netns = args.netns.iter().map(inum).collect::<Result<_, _>>()?;
    let span = args.span(&now).map_err(|error| Usage(error.to_string()))?;
    Ok((Selection { filter: args.filter(netns), span }, now))
}
