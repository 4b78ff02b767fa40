//! `rstrace explain`.

use clap::Args;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A cause, as verdicts name it, such as oom_killed; without it, all of them are listed
    pub cause: Option<String>,
}
