//! `rstrace completions` and `rstrace man`: what the shell and the manual know of the command line.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::output::text::printable;
use crate::output::write::WriteError;

const NAME: &str = "rstrace";

/// Prints the script for one shell.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let all = Cli::command();
    // Scripts would offer what is hidden, too.
    let typed = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut command = Command::new(NAME).args(all.get_arguments().cloned()).subcommands(typed);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, NAME, &mut script);
    print(&script)
}

/// Prints the page of the program, or writes one page a command into a folder.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    match &args.folder {
        Some(folder) => pages(folder),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&page)
        }
    }
}

fn pages(folder: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder).with_context(|| {
        format!("cannot write manual pages into {}", printable(&folder.display().to_string()))
    })
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(WriteError::Closed.into()),
        done => Ok(done?),
    }
}
