//! `rstrace agent`: the daemon.

use anyhow::Context as _;

use super::told_to_stop;
use crate::agent::Agent;
use crate::cli::{AgentArgs, Global};
use crate::kernel::{Kernel, Options};
use crate::output::filter::Filter;
use crate::output::http;
use crate::output::printer::{Feed, Format, Limits, Printer};
use crate::output::socket::Server;

/// Lines that the agent's own terminal may be behind.
const QUEUE: usize = 4096;

/// Runs until it is told to stop.
pub(super) async fn run(args: &AgentArgs, global: &Global) -> anyhow::Result<()> {
    // Who may not load the programs may not use the socket's directory either; the first is the reason.
    Kernel::supported()?;
    // Whatever may be occupied is taken before anything is loaded.
    let server = Server::bind(&args.socket)?;
    let listener = http::bind(args.listen).await?;
    let agent = Agent::start(&Options {
        vantage: None,
        groups: args.with.groups(),
        debug_programs: global.debug_programs,
    })?;
    agent.hub().remember(args.history);
    let (metrics, health) = (agent.metrics(), agent.health());
    let ready = agent.ready();
    let live = live(args, &agent)?;
    let socket = server.serve(agent.hub(), ready.clone(), agent.audit());
    let web = http::serve(listener, metrics, health).context("cannot start the HTTP server")?;
    tracing::info!("serving /metrics on {}, verdicts on {}", args.listen, args.socket.display());
    tokio::select! {
        done = agent.run() => done.context("the agent stopped"),
        done = web => done.context("the HTTP server stopped"),
        () = socket => Ok(()),
        done = live => done,
        done = told_to_stop() => done.context("cannot wait for signals"),
    }
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
