//! `rstrace top`, and the filter that is typed while it runs.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::FilterArgs;
use crate::output::socket;

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Print the table once, as text
    #[arg(long, conflicts_with = "json")]
    pub once: bool,

    /// Print the table once, one JSON object for each upstream
    #[arg(long)]
    pub json: bool,

    /// Socket of the running agent
    #[arg(long, value_name = "PATH", env = "RSTRACE_SOCKET", default_value = socket::DEFAULT_PATH)]
    pub socket: PathBuf,

    // Last, since its heading stands above whatever follows. Without --since, the last 15 minutes.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// A filter typed on the screen.
#[derive(Debug, Default, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
pub struct TypedFilter {
    #[command(flatten)]
    pub filter: FilterArgs,

    /// What is no option has to be in the text of the row.
    pub words: Vec<String>,
}

/// Options that need no dashes where nothing else can be meant.
const OPTIONS: [&str; 11] =
    ["since", "upstream", "by", "cause", "impact", "process", "container", "pod", "netns", "gateway", "all"];

impl TypedFilter {
    /// Reads `by=upstream cause=oom_killed 10.0.3.7`; dashes are allowed.
    ///
    /// # Errors
    /// One line that says which word is wrong.
    pub fn read(text: &str) -> Result<Self, String> {
        let words = text.split_whitespace().map(|word| match word.split_once('=') {
            Some((option, _)) if OPTIONS.contains(&option) => format!("--{word}"),
            _ => word.to_owned(),
        });
        Self::try_parse_from(words).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").trim().to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{By, Cause};

    #[test]
    fn words_and_options_may_be_mixed() {
        let read =
            TypedFilter::read("by=upstream,gateway php --cause oom_killed a=b upstream=10.0.0.0/8").unwrap();
        assert_eq!(read.filter.by, [By::Upstream, By::Gateway]);
        assert_eq!(read.filter.cause, [Cause::OomKilled]);
        assert_eq!(read.filter.upstream.len(), 1);
        assert_eq!(read.words, ["php", "a=b"]);
        assert!(TypedFilter::read("  ").unwrap().words.is_empty());
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for (text, hint) in [
            ("cause=luck", "`luck` is no cause"),
            ("--frobnicate", "--frobnicate"),
            ("by=", "--by"),
            ("-h", "-h"),
        ] {
            let error = TypedFilter::read(text).unwrap_err();
            assert!(error.contains(hint) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
