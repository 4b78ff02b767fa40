//! `rstrace explain COOKIE`: a verdict that the agent has kept, its evidence, and what its cause means.

use std::fmt::Write as _;

use super::cause::section;
use crate::cli::ExplainArgs;
use crate::command::selection::selection;
use crate::output::VerdictView;
use crate::output::human::Human;
use crate::output::selection::Selection;
use crate::output::socket::Client;
use crate::output::text::printable;
use crate::output::write::LineWriter;

/// Nothing was kept of that connection.
#[derive(Debug, thiserror::Error)]
#[error("the agent has kept no verdict with connection.cookie {cookie}{memory}")]
struct NotKept {
    cookie: u64,
    memory: String,
}

/// Prints what is known of the connection with that cookie.
pub(super) async fn run(args: &ExplainArgs, cookie: u64) -> anyhow::Result<()> {
    let (Selection { filter, span }, now) = selection(&args.filter)?;
    let mut found = Vec::new();
    let client = Client::connect(&args.socket).await?;
    let told = client
        .history(Selection { filter, span }, |view| {
            if view.connection.cookie == cookie {
                found.push(view);
            }
        })
        .await?;
    if found.is_empty() {
        let memory = told.history.oldest.map_or_else(String::new, |oldest| {
            let oldest = oldest.to_zoned(now.time_zone().clone());
            format!(": its memory begins at {}", oldest.strftime("%Y-%m-%d %H:%M:%S"))
        });
        return Err(NotKept { cookie, memory }.into());
    }
    let mut out = LineWriter::stdout()?;
    let human = Human::stdout();
    for view in &found {
        out.line(if args.json { view.to_json() } else { text(view, &human) }).await?;
    }
    Ok(out.finish().await?)
}

/// The line of the verdict, what it rests on, and the section about its cause.
fn text(view: &VerdictView, human: &Human) -> String {
    let mut text = format!("{}\n\n", human.line(view));
    for evidence in &view.evidence {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  - {}", printable(evidence));
    }
    for line in figures(view) {
        let _ = writeln!(text, "  {line}");
    }
    let _ = write!(text, "\n{}", section(view.cause));
    text.trim_end().to_owned()
}

/// What was counted and measured of the connection.
fn figures(view: &VerdictView) -> Vec<String> {
    let connection = &view.connection;
    let end = |address: &Option<String>| printable(address.as_deref().unwrap_or("-")).into_owned();
    let ms = |ms: f64| format!("{ms} ms");
    let unknown = || "unknown".to_owned();
    let mut lines = vec![
        format!("{} to {}, of {}", end(&view.local), end(&view.peer), owner(view)),
        format!(
            "sent {} bytes, received {}, {} retransmissions",
            connection.bytes_sent.map_or_else(unknown, |bytes| bytes.to_string()),
            connection.bytes_received,
            connection.retransmits
        ),
    ];
    if let Some(age) = connection.age_ms {
        let since = connection.since_request_ms.map_or_else(unknown, ms);
        lines.push(format!("age {}, since the request {since}", ms(age)));
    }
    if let Some(reused) = connection.reused {
        lines.push(if reused { "it had carried requests before" } else { "its first request" }.to_owned());
    }
    lines
}

fn owner(view: &VerdictView) -> String {
    view.owner.as_ref().map_or_else(
        || "an unknown process".to_owned(),
        |owner| format!("{}[{}]", printable(&owner.comm), owner.pid),
    )
}
