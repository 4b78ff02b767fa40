//! `rstrace report`.

use std::path::PathBuf;

use clap::Args;

use super::FilterArgs;
use crate::output::socket;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// As JSON, with everything that the page leaves out
    #[arg(long)]
    pub json: bool,

    /// Write it as a page for a browser, with its data in it, to attach to a post-mortem
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Socket of the running agent, whose memory it is
    #[arg(long, value_name = "PATH", env = "RSTRACE_SOCKET", default_value = socket::DEFAULT_PATH)]
    pub socket: PathBuf,

    /// From this file, which `rstrace agent --journal` wrote, and the older ones beside it; asks no agent
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    // Last, since its heading stands above whatever follows.
    #[command(flatten)]
    pub filter: FilterArgs,
}
