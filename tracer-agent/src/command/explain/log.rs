//! `rstrace explain --nginx-error-log F` and the like: each failure in the log beside its verdict.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::Context as _;
use jiff::SignedDuration;

use super::pair::Spelling;
use super::tally::Tally;
use crate::cli::ExplainArgs;
use crate::command::selection::selection;
use crate::output::selection::{Filter, Selection, Span};
use crate::output::socket::{Client, ClientError, Told};
use crate::output::write::LineWriter;
use crate::proxy_log::{Entry, Failure, Format, Joiner, Lines, Memory, Outcome, Pair};

/// After so many lines of which none is one of such a log, it is another file.
const FOREIGN: u64 = 1000;
/// Verdicts so long before and after what is asked for may belong to lines of its first and last moments.
const MARGIN: SignedDuration = SignedDuration::from_secs(5);

/// A log of another kind.
#[derive(Debug, thiserror::Error)]
#[error("{path}: none of its {lines} lines is of this kind: {expected} are expected")]
struct Foreign {
    path: String,
    lines: u64,
    expected: &'static str,
}

/// Reads the log to its end, and says what became of each failure.
pub(super) async fn run(args: &ExplainArgs, format: Format, path: &Path) -> anyhow::Result<()> {
    let (selection, now) = selection(&args.filter)?;
    let file = path;
    let path = path.display().to_string();
    let mut lines = Lines::new(open(file).with_context(|| format!("cannot read {path}"))?);
    let spelling = Spelling::new(args.json, &format);
    let mut work = Work {
        args,
        selection,
        format,
        out: LineWriter::stdout()?,
        spelling,
        joiner: None,
        no_agent: None,
        tally: Tally::default(),
    };
    while let Some((number, line)) = lines.next_line().with_context(|| format!("cannot read {path}"))? {
        work.tally.lines += 1;
        match work.format.read(number, &line, now.time_zone()) {
            Entry::Unknown => work.tally.unknown += 1,
            Entry::Other => work.tally.other += 1,
            Entry::Failures(failures) => {
                for failure in failures {
                    work.take(failure).await?;
                }
            }
        }
        if work.tally.unknown == FOREIGN && work.tally.lines == FOREIGN {
            break;
        }
    }
    if work.tally.lines > 0 && work.tally.unknown == work.tally.lines {
        let (lines, expected) = (work.tally.lines, work.format.expected());
        return Err(Foreign { path, lines, expected }.into());
    }
    work.finish().await
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(File::open(path)?)))
}

/// What is read, joined and printed.
struct Work<'a> {
    args: &'a ExplainArgs,
    selection: Selection,
    format: Format,
    out: LineWriter,
    spelling: Spelling,
    /// None until the first failure.
    joiner: Option<Joiner>,
    no_agent: Option<ClientError>,
    tally: Tally,
}

impl Work<'_> {
    async fn take(&mut self, failure: Failure) -> anyhow::Result<()> {
        let Span { since, until } = self.selection.span;
        let after_end = until.is_some_and(|until| failure.window.from >= until);
        if after_end || since.is_some_and(|since| failure.window.until <= since) {
            self.tally.outside += 1;
            return Ok(());
        }
        if self.joiner.is_none() {
            self.joiner = Some(self.ask().await);
        }
        let Some(joiner) = &mut self.joiner else { return Ok(()) };
        let settled = joiner.take(failure);
        self.print(settled).await
    }

    /// Asks the agent for all that it has kept of that time. Without one, the log still speaks for itself.
    ///
    /// A log is of one proxy: where others on this host fail at the same time, only verdicts of the one that the filter
    /// names may be joined.
    async fn ask(&mut self) -> Joiner {
        let mut verdicts = Vec::new();
        let selection =
            Selection { span: widened(self.selection.span), filter: self.selection.filter.of_whom() };
        let asked = async {
            let client = Client::connect(&self.args.socket).await?;
            client.history(selection, |view| verdicts.push(view)).await
        };
        let asked: Result<Told, ClientError> = asked.await;
        let comms = self.format.comms();
        match asked {
            Ok(Told { ready, history }) => {
                self.tally.memory_begins = history.oldest;
                let memory = Memory { groups: ready.groups, oldest: history.oldest };
                Joiner::new(Some(memory), verdicts, comms)
            }
            Err(error) => {
                self.no_agent = Some(error);
                Joiner::new(None, Vec::new(), comms)
            }
        }
    }

    async fn print(&mut self, pairs: Vec<Pair>) -> anyhow::Result<()> {
        let Some(joiner) = &self.joiner else { return Ok(()) };
        for pair in pairs {
            let verdict = match pair.outcome {
                Outcome::Joined { verdict, .. } => joiner.verdict(verdict),
                Outcome::LogAlone(_) | Outcome::NotJoined(_) => None,
            };
            let filter = &self.selection.filter;
            if !verdict.map_or_else(|| holds(filter, &pair.failure), |view| filter.matches(view)) {
                self.tally.filtered += 1;
                continue;
            }
            self.tally.count(&pair);
            self.out.line(self.spelling.pair(&pair, verdict)).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> anyhow::Result<()> {
        let rest = self.joiner.as_mut().map(Joiner::finish).unwrap_or_default();
        self.print(rest).await?;
        self.out.line(self.spelling.total(&self.tally)).await?;
        self.out.finish().await?;
        self.no_agent.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Of a failure without a verdict the upstream is known and whose log it is in; what became of it is not, so that a
/// filter for that leaves it out.
fn holds(filter: &Filter, failure: &Failure) -> bool {
    let upstream = filter.upstream.is_empty()
        || failure.target().is_some_and(|target| filter.upstream.iter().any(|wanted| wanted.holds(target)));
    upstream && filter.by.is_empty() && filter.cause.is_empty() && filter.impact.is_empty()
}

fn widened(span: Span) -> Span {
    Span {
        since: span.since.and_then(|since| since.checked_sub(MARGIN).ok()),
        until: span.until.and_then(|until| until.checked_add(MARGIN).ok()),
    }
}
