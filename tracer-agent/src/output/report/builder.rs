//! Counts verdicts, and makes the report of them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::findings::{Facts, findings, headline};
use super::groups::Groups;
use super::phrases::Clock;
use super::processes::Programs;
use super::seen::Seen;
use super::timeline::Counted;
use super::{Next, Report, SpanView, Totals, stale};
use crate::output::VerdictView;
use crate::output::selection::Selection;
use crate::output::state::StateView;
use crate::output::view::{HistoryView, Kind, SCHEMA};
use crate::verdict::{Cause, Impact, Section};

/// What was asked for, when and where.
#[derive(Clone, Debug)]
pub struct Asked {
    pub host: String,
    pub time: Timestamp,
    /// In which the sentences tell times.
    pub zone: TimeZone,
    pub selection: Selection,
}

/// Takes verdicts in any order.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    totals: Totals,
    groups: Groups,
    programs: Programs,
    timeline: Counted,
}

impl Builder {
    /// Takes one verdict in.
    pub fn add(&mut self, view: &VerdictView) {
        self.take(&Seen::from(view));
    }

    /// The same of what was read from its line.
    pub fn take(&mut self, seen: &Seen<'_>) {
        if seen.impact == Impact::None {
            self.totals.harmless += 1;
            return;
        }
        let totals = &mut self.totals;
        totals.losses += 1;
        totals.impacts.add(seen.impact);
        totals.first = Some(totals.first.map_or(seen.time, |first| first.min(seen.time)));
        totals.last = Some(totals.last.map_or(seen.time, |last| last.max(seen.time)));
        self.groups.add(seen);
        self.programs.add(seen);
        self.timeline.add(seen.time);
    }

    /// The report; `history` is how far back the agent's memory goes, `state` what it has learned.
    #[must_use]
    pub fn finish(self, asked: Asked, history: Option<&HistoryView>, state: Option<StateView>) -> Report {
        let ranked = self.groups.finish();
        let totals = Totals { upstreams: ranked.upstreams, ..self.totals };
        let span = covered(&asked, history, state.as_ref());
        let learned = state.map(|state| state.upstreams).unwrap_or_default();
        let timeline = self.timeline.finish();
        let clock = Clock { zone: asked.zone, now: asked.time };
        let facts = Facts {
            clock: &clock,
            span: &span,
            filtered: !asked.selection.filter.takes_everything(),
            totals: &totals,
            groups: &ranked.groups,
            causes: &ranked.causes,
            timeline: &timeline,
        };
        Report {
            schema: SCHEMA,
            kind: Kind::Report,
            headline: headline(&facts),
            findings: findings(&facts),
            stale: stale::stale(&ranked.groups, &learned),
            next: ranked.causes.iter().filter_map(|(cause, losses)| next(*cause, *losses)).collect(),
            host: asked.host,
            time: asked.time,
            span,
            filter: asked.selection.filter,
            totals,
            groups: ranked.groups,
            others: ranked.others,
            timeline,
            programs: self.programs.finish(),
            learned,
        }
    }
}

/// From when on nothing is missing: since the agent began to see, and since the oldest that it has not forgotten.
fn covered(asked: &Asked, history: Option<&HistoryView>, state: Option<&StateView>) -> SpanView {
    let span = asked.selection.span;
    let began = state.map(|state| state.since);
    let forgot = history.filter(|history| history.forgotten > 0);
    // Where all was forgotten, nothing is covered before now.
    let kept_since = forgot.map(|history| history.oldest.unwrap_or(asked.time));
    let covered_since = if began.is_none() && kept_since.is_none() {
        None
    } else {
        [span.since, began, kept_since].into_iter().max()
    };
    SpanView {
        since: span.since,
        until: span.until,
        covered_since: covered_since.flatten(),
        oldest: history.and_then(|history| history.oldest),
        kept: history.map_or(0, |history| history.kept),
        forgotten: history.map_or(0, |history| history.forgotten),
    }
}

/// What docs/causes.md says that is to be done.
fn next(cause: Cause, losses: u64) -> Option<Next> {
    let section = Section::of(cause)?;
    let (_, text) = section.paragraphs().find(|(label, _)| *label == "Do")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(Next { cause, losses, advice: words.join(" ") })
}
