//! What can be typed, one file a command. Each returns what the process has to say to its caller: an exit code.

mod agent;
mod demo;
mod doctor;
mod explain;
mod netns;
mod record;
mod replay;
mod report;
mod selection;
mod shell;
mod top;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::cli::{Cli, Command, LogLevel};
use crate::kernel::LoadError;
use crate::output::journal::JournalError;
use crate::output::printer::StreamError;
use crate::output::socket::ClientError;
use crate::output::write::WriteError;

/// Exit codes of the contract.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const REFUSED: u8 = 3;

/// A word on the command line that turns out to be wrong when it is looked up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs what was typed.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    log_to_stderr(cli.global.log, cli.global.debug_programs);
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(dispatch(cli)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

async fn dispatch(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Agent(args) => agent::run(args, &cli.global).await,
        Command::Watch(args) => watch::run(args, &cli.global).await,
        Command::Top(args) => top::run(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Record(args) => record::run(args, &cli.global).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
        Command::Demo(_) => demo::command(&cli.global).await,
        Command::DemoPart(args) => demo::play(args.part),
    }
}

/// One line on standard error, and the exit code that the contract gives it.
fn complain(error: &anyhow::Error) -> ExitCode {
    let closed = |e: &WriteError| matches!(e, WriteError::Closed);
    let reader_gone = error.downcast_ref::<WriteError>().is_some_and(closed)
        || matches!(error.downcast_ref::<StreamError>(), Some(StreamError::Write(e)) if closed(e));
    if reader_gone {
        return ExitCode::SUCCESS;
    }
    let code = if error.downcast_ref::<Usage>().is_some() {
        WRONG_USAGE
    } else if error.downcast_ref::<LoadError>().is_some_and(LoadError::is_refusal)
        || matches!(error.downcast_ref(), Some(ClientError::NotPermitted { .. }))
        || error.downcast_ref::<JournalError>().is_some_and(JournalError::is_refusal)
    {
        REFUSED
    } else {
        FAILED
    };
    say(&format_args!("{error:#}"));
    ExitCode::from(code)
}

/// One line on standard error, whatever `--log` says.
fn say(what: &dyn std::fmt::Display) {
    let text = what.to_string().replace('\n', " ");
    // Standard error may be closed; there is nobody left to tell.
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("rstrace: {}\n", text.trim_end()));
}

fn log_to_stderr(level: LogLevel, debug_programs: bool) {
    let mut filter = level.0.map_or(LevelFilter::OFF, Into::into);
    if debug_programs {
        filter = filter.max(LevelFilter::DEBUG);
    }
    // The Kubernetes client calls every attempt an error; what fails is said once where it is asked.
    let client = if filter >= LevelFilter::DEBUG { filter } else { LevelFilter::OFF };
    let targets = Targets::new().with_default(filter).with_target("kube_client", client);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(filter).with_ansi(colours).with_writer(std::io::stderr);
    // A second initialisation (tests) keeps the first.
    let _ = tracing::subscriber::set_global_default(subscriber.finish().with(targets));
}

/// Completes on ctrl-C or SIGTERM.
async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
