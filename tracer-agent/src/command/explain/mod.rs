//! `rstrace explain`: a cause, a verdict that was kept, or the failures in a proxy's log.

mod cause;
mod log;
mod pair;
mod tally;
mod verdict;

use super::Usage;
use crate::cli::ExplainArgs;

/// Prints what was asked for.
pub(super) async fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    if let Some((format, path)) = args.log() {
        return log::run(args, format, path).await;
    }
    match args.what.as_deref() {
        // No cause is a number.
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            let cookie = text.parse().map_err(|_| Usage(format!("{text} is no cookie: it has 64 bits")))?;
            verdict::run(args, cookie).await
        }
        _ if args.json => {
            let why =
                "--json goes with a log or with the cookie of a connection: a cause is explained in text";
            Err(Usage(why.to_owned()).into())
        }
        cause => cause::run(cause),
    }
}
