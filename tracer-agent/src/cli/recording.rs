//! `rstrace record` and `rstrace replay`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{FilterArgs, NamesArgs, Netns, WithArgs, duration};

#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Where to write the recording, one JSON object a line; - is standard output
    pub file: PathBuf,

    /// Also record the ends of healthy connections, for `replay --all`
    #[arg(long)]
    pub all: bool,

    /// See sockets and processes of this network namespace only, as if all else were on other machines
    #[arg(long, value_name = "PATH|INUM")]
    pub vantage: Option<Netns>,

    /// End after so many verdicts
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,

    /// End after this time, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub names: NamesArgs,

    #[command(flatten)]
    pub with: WithArgs,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The recording; - is standard input
    pub file: PathBuf,

    /// JSON lines, the first of them `ready`
    #[arg(long)]
    pub json: bool,

    /// End after so many verdicts
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,

    // Last, since its heading stands above whatever follows.
    #[command(flatten)]
    pub filter: FilterArgs,
}
