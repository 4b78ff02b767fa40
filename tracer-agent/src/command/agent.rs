//! `rstrace agent`: the daemon.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::told_to_stop;
use crate::agent::Agent;
use crate::cli::{AgentArgs, Global, selection_of};
use crate::enrich::Sources;
#[cfg(feature = "kubernetes")]
use crate::enrich::kubernetes::Kubernetes;
use crate::kernel::{Kernel, Options};
use crate::output::filter::Filter;
use crate::output::history::History;
use crate::output::journal::{Journal, Opened, Opening, Written};
#[cfg(feature = "otlp")]
use crate::output::otlp::Exporter;
use crate::output::printer::{Feed, Format, Limits, Printer};
use crate::output::socket::Server;
use crate::output::systemd::Manager;
use crate::output::web::{Answers, Web};
use crate::output::{http, metrics};

/// Lines that the agent's own terminal may be behind.
const QUEUE: usize = 4096;
/// How long the last lines of the journal, or of what is exported, may take after ctrl-C.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs until it is told to stop.
pub(super) async fn run(args: &AgentArgs, global: &Global) -> anyhow::Result<()> {
    let sources = sources(args).await?;
    // Who may not load the programs may not use the socket's directory either; the first is the reason.
    Kernel::supported()?;
    // Whatever may be occupied is taken before anything is loaded.
    let server = Server::bind(&args.socket)?;
    let listener = http::bind(args.listen).await?;
    let page = match args.web {
        Some(address) => Some(Web::bind(address, args.web_token_file.as_deref()).await?),
        None => None,
    };
    // Read while the programs are loaded.
    let journal = args.journal.place().map(|place| Opening::begin(place, args.history)).transpose();
    let journal = journal.context("cannot start the thread of the journal")?;
    let options =
        Options { vantage: None, groups: args.with.groups(), debug_programs: global.debug_programs };
    let mut agent = Agent::start(&options, sources)?;
    let written = remember(journal, args.history, &mut agent)?;
    let (metrics, health) = (agent.metrics(), agent.health());
    let ready = agent.ready();
    let live = live(args, &agent)?;
    let exported = exported(args, &agent)?;
    let page = served_page(page, &agent)?;
    let socket = server.serve(agent.hub(), ready.clone(), agent.audit(), agent.asker());
    let web = http::serve(listener, metrics, Arc::clone(&health)).context("cannot start the HTTP server")?;
    let serving = format!("serving /metrics on {}, verdicts on {}", args.listen, args.socket.display());
    tracing::info!("{serving}");
    let manager =
        Manager::tell(health, serving).context("cannot start the thread that speaks with systemd")?;
    let done = tokio::select! {
        done = agent.run() => done.context("the agent stopped"),
        done = web => done.context("the HTTP server stopped"),
        done = page => done,
        () = socket => Ok(()),
        done = live => done,
        done = told_to_stop() => done.context("cannot wait for signals"),
    };
    if let Some(manager) = manager {
        manager.stopping().await;
    }
    if let Some(exported) = exported {
        // As with the disk: a collector that takes nothing holds nobody up.
        let _ = tokio::time::timeout(LAST_LINES, exported).await;
    }
    if let Some(written) = written {
        // The agent has gone; a disk that takes nothing holds nobody up.
        let _ = tokio::time::timeout(LAST_LINES, written.finish()).await;
    }
    done
}

/// Where names come from: the node's files and, with `--kubernetes`, an API server.
async fn sources(args: &AgentArgs) -> anyhow::Result<Sources> {
    let sources = args.names.sources();
    if !args.kubernetes.kubernetes {
        return Ok(sources);
    }
    #[cfg(feature = "kubernetes")]
    {
        let node = args.kubernetes.node.clone();
        let node = node.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let kubernetes = Some(Kubernetes::prepare(&node).await?);
        Ok(Sources { kubernetes, ..sources })
    }
    #[cfg(not(feature = "kubernetes"))]
    Err(super::Usage(
        "--kubernetes is not compiled in: build with `cargo build --release -p tracer-agent --features kubernetes`"
            .to_owned(),
    )
    .into())
}

/// Begins with what the journal holds of the past, and goes on writing it.
fn remember(journal: Option<Opening>, capacity: usize, agent: &mut Agent) -> anyhow::Result<Option<Written>> {
    let Some(journal) = journal else {
        agent.hub().remember(History::new(capacity));
        return Ok(None);
    };
    let Opened { appender, history, skipped } = journal.finish()?;
    if !skipped.is_nothing() {
        tracing::warn!("the journal {}: {skipped}", appender.path().display());
    }
    agent.hub().remember(history);
    let metrics = agent.metrics();
    let started = Journal::start(appender, move |count| metrics.dropped(metrics::JOURNAL, count));
    let (journal, written) = started.context("cannot start the thread of the journal")?;
    agent.keep_journal(journal);
    Ok(Some(written))
}

/// The exporter at work, with `--otlp`.
#[cfg(feature = "otlp")]
fn exported(args: &AgentArgs, agent: &Agent) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    let Some(endpoint) = args.otlp.clone() else { return Ok(None) };
    let exporter = Exporter::new(endpoint, &agent.hub(), agent.metrics())?;
    Ok(Some(tokio::spawn(exporter.run())))
}

/// A build without the feature has nobody to export to.
#[cfg(not(feature = "otlp"))]
fn exported(_: &AgentArgs, _: &Agent) -> anyhow::Result<Option<std::future::Ready<()>>> {
    Ok(None)
}

/// The web page, with `--web`; else nothing, for ever.
fn served_page(
    page: Option<Web>,
    agent: &Agent,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let served = match page {
        Some(page) => {
            let address = page.address();
            match page.generated_token() {
                // Nobody could open the page without this line, so it is no mere information.
                Some(token) => tracing::warn!("the web page: http://{address}/?token={}", token.reveal()),
                None => tracing::info!("the web page: http://{address}/"),
            }
            let answers = Answers {
                hub: agent.hub(),
                ready: Arc::new(agent.ready()),
                asker: agent.asker(),
                select: selection_of,
            };
            Some(page.serve(answers).context("cannot start the web page")?)
        }
        None => None,
    };
    Ok(async move {
        match served {
            Some(served) => served.await.context("the web page stopped"),
            None => std::future::pending().await,
        }
    })
}

/// The agent's own terminal, with `--watch`; else nothing, for ever.
fn live(args: &AgentArgs, agent: &Agent) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let feed = if args.watch {
        let filter = Filter { gateway: args.gateway.clone(), all: args.all, ..Filter::default() };
        Some(Feed::Own(agent.started(), agent.hub().subscribe("stdout", filter, QUEUE)?))
    } else {
        None
    };
    let format = Format::stdout(args.json);
    let served = (!args.json).then(|| {
        let (listen, socket) = (args.listen, args.socket.display());
        format!(
            "Metrics on http://{listen}/metrics, verdicts for `rstrace watch` on {socket}. Ctrl-C ends it.\n"
        )
    });
    Ok(async move {
        let Some(feed) = feed else { return std::future::pending().await };
        let mut printer = Printer::stdout(format)?;
        if let Some(text) = served {
            printer.note(text).await?;
        }
        printer.follow(feed, Limits::default()).await?;
        Ok(printer.finish().await?)
    })
}
