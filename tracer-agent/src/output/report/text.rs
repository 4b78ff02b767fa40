//! The report as one page for a terminal: the verdict first, details below.
//!
//! Made for eighty columns and for somebody who has just been woken. Text that processes chose is made safe first:
//! see `output::text`.

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::findings::impacts;
use super::phrases::{Clock, count, length};
use super::rows::{culprit_line, in_scope, instance_line, stale_line};
use super::{Group, Part, Program, Report, Timeline};
use crate::output::sparkline::sparkline;
use crate::output::state::UpstreamState;
use crate::output::text::printable;
use crate::verdict::By;

/// Without a terminal, and at most: longer lines are hard to read.
const COLUMNS: usize = 80;
const WIDEST: usize = 100;
const NARROWEST: usize = 30;
/// What a page shows of each section; `--json` has the rest.
const GROUPS: usize = 8;
const PROGRAMS: usize = 6;
const LISTED: usize = 10;
const ADVICE: usize = 3;

const RED: Style = AnsiColor::Red.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Spells a report.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    report: &'a Report,
    clock: Clock,
    width: usize,
    text: String,
}

impl<'a> Page<'a> {
    /// For a terminal of so many columns; None where it is none.
    #[must_use]
    pub fn new(report: &'a Report, zone: TimeZone, columns: Option<usize>) -> Self {
        let width = columns.unwrap_or(COLUMNS).clamp(NARROWEST, WIDEST);
        Self { report, clock: Clock { zone, now: report.time }, width, text: String::new() }
    }

    /// The page, with colours.
    #[must_use]
    pub fn text(mut self) -> String {
        self.verdict();
        self.timeline(&self.report.timeline);
        self.groups();
        self.programs();
        self.stale();
        self.learned();
        self.next();
        self.text
    }

    fn verdict(&mut self) {
        let report = self.report;
        let day = report.time.to_zoned(self.clock.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        self.line(DIM, 0, &format!("{} on {day}, all times {}", report.host, self.clock.zone()));
        self.text.push('\n');
        let style = if report.totals.losses > 0 { RED } else { GREEN };
        self.line(style, 0, &report.headline);
        for finding in &report.findings {
            self.item("- ", 0, finding);
        }
        let span = report.span;
        if let Some(began) = span.covered_since
            && span.since.is_none_or(|asked| asked < began)
        {
            let since = self.clock.moment(began);
            let why = match span.forgotten {
                0 if span.oldest.is_some_and(|oldest| oldest < began) => {
                    format!(
                        "The agent started at {since}: of the time before, this is what its journal kept."
                    )
                }
                0 => format!("The agent started at {since}: nothing from before is known."),
                n => format!(
                    "Nothing from before {since} is in here: the agent has had to forget {n} verdicts."
                ),
            };
            if span.forgotten > 0 || span.since.is_some() {
                self.line(YELLOW, 0, &why);
            }
        }
        if report.totals.harmless > 0 {
            let harmless = count(report.totals.harmless, "connection");
            self.line(DIM, 0, &format!("{harmless} more ended without harm."));
        }
    }

    /// One mark for each interval.
    fn timeline(&mut self, timeline: &Timeline) {
        let most = timeline.losses.iter().copied().max().unwrap_or_default();
        let Some(from) = timeline.from.filter(|_| timeline.losses.len() > 2) else { return };
        let marks = sparkline(&timeline.losses);
        let seconds = i64::try_from(timeline.seconds).unwrap_or(i64::MAX);
        let each = length(jiff::SignedDuration::from_secs(seconds));
        self.text.push('\n');
        self.line(YELLOW, 2, marks.trim_end());
        let from = self.clock.moment(from);
        self.line(DIM, 2, &format!("from {from} on, {each} each; the fullest {}", count(most, "loss")));
    }

    fn groups(&mut self) {
        let report = self.report;
        if report.groups.is_empty() {
            return;
        }
        self.heading("What was lost");
        for group in report.groups.iter().take(GROUPS) {
            self.group(group);
        }
        let hidden = report.groups.iter().skip(GROUPS);
        let (more, losses) = hidden.fold((0, 0), |(n, losses), group| (n + 1, losses + group.losses));
        let (more, losses) = (more + report.others.groups, losses + report.others.losses);
        if losses > 0 {
            let (losses, more) = (count(losses, "loss"), count(more, "line"));
            self.line(DIM, 2, &format!("… and {losses} in {more} more: --json shows them"));
        }
    }

    fn group(&mut self, group: &Group) {
        let Group { cause, by, .. } = group;
        let accepted = if group.upstream.is_none() { " (accepted)" } else { "" };
        let name =
            group.upstream_name.as_deref().map_or(String::new(), |name| format!(" {}", printable(name)));
        let address = format!("{}{name}{}{accepted}", printable(group.address()), in_scope(&group.scope));
        let by = if *by == By::Upstream { String::new() } else { format!(", by {by}") };
        let losses = format!("{:>6}", group.losses);
        self.text.push_str(&paint(RED, &losses));
        self.text.push_str("  ");
        self.item_after(
            &[(BOLD, &address), (Style::new(), " "), (BOLD, cause.name()), (Style::new(), &by)],
            8,
        );
        let (first, last) = (self.clock.moment(group.first), self.clock.moment(group.last));
        let when = if first == last { format!("at {first}") } else { format!("{first} to {last}") };
        self.line(DIM, 8, &format!("{when}: {}", impacts(&group.impacts)));
        for culprit in &group.culprits {
            let told = format!("culprit {}", culprit_line(culprit, &self.clock));
            self.line(Style::new(), 8, &told);
        }
        if group.other_culprits > 0 {
            self.line(DIM, 8, &format!("other culprits: {}", count(group.other_culprits, "loss")));
        }
        if let Some(container) = &group.container {
            self.line(Style::new(), 8, &format!("gateway in container {}", short(container)));
        }
        self.line(DIM, 8, &format!("e.g. {}", group.example));
    }

    fn programs(&mut self) {
        let report = self.report;
        let told: Vec<_> = report.programs.iter().filter(|program| program.part == Part::Culprit).collect();
        let owners: Vec<_> = report.programs.iter().filter(|program| program.part == Part::Owner).collect();
        if report.programs.is_empty() {
            return;
        }
        self.heading("Processes");
        for program in told.into_iter().take(PROGRAMS).chain(owners.into_iter().take(PROGRAMS / 2)) {
            self.program(program);
        }
    }

    fn program(&mut self, program: &Program) {
        let part = match program.part {
            Part::Culprit => "",
            Part::Owner => " (dialling)",
        };
        let container =
            program.container.as_deref().map_or(String::new(), |id| format!(" in container {}", short(id)));
        let mut figures = vec![count(program.processes, "process")];
        if program.ended > 0 {
            figures.push(format!("{} ended", program.ended));
        }
        if program.restarts > 0 {
            figures.push(format!("restarted {}", count(program.restarts, "time")));
        }
        let name = format!("{}{part}{container}", printable(&program.comm));
        self.text.push_str("  ");
        self.item_after(&[(BOLD, &name), (Style::new(), &format!(": {}", figures.join(", ")))], 2);
        let hidden = program.processes.saturating_sub(program.latest.len() as u64);
        if hidden > 0 {
            self.line(DIM, 4, &format!("… {hidden} before"));
        }
        for instance in &program.latest {
            let told = instance_line(instance, &self.clock);
            self.line(Style::new(), 4, &told);
        }
    }

    fn stale(&mut self) {
        if self.report.stale.is_empty() {
            return;
        }
        self.heading("Nothing listens");
        for stale in self.report.stale.iter().take(LISTED) {
            let told = stale_line(stale, &self.clock);
            self.item("  ", 0, &told);
        }
        self.more(self.report.stale.len());
    }

    fn learned(&mut self) {
        // Those that lost something first, the others by their address.
        let lost = |state: &UpstreamState| {
            !self.report.groups.iter().any(|g| g.address() == state.upstream && g.scope == state.scope)
        };
        let mut told: Vec<_> = self.report.learned.iter().filter(|state| state.has_limits()).collect();
        told.sort_by_key(|state| lost(state));
        if told.is_empty() {
            return;
        }
        self.heading("Timeouts and keep-alive");
        for state in told.iter().take(LISTED) {
            let name = format!("{}{}", printable(&state.upstream), in_scope(&state.scope));
            self.line(BOLD, 2, &name);
            for limit in state.limits() {
                self.line(Style::new(), 4, &limit);
            }
        }
        self.more(told.len());
    }

    fn next(&mut self) {
        if self.report.next.is_empty() {
            return;
        }
        self.heading("What to do next");
        for next in self.report.next.iter().take(ADVICE) {
            let losses = format!(" ({})", count(next.losses, "loss"));
            self.text.push_str("  ");
            self.item_after(&[(BOLD, next.cause.name()), (DIM, &losses)], 2);
            self.line(Style::new(), 4, &next.advice.replace("**", "").replace('`', ""));
        }
        let more: Vec<_> = self.report.next.iter().skip(ADVICE).map(|next| next.cause.name()).collect();
        let more = if more.is_empty() { String::new() } else { format!(" (also of {})", more.join(", ")) };
        self.line(DIM, 2, &format!("rstrace explain CAUSE says more{more}"));
    }

    fn heading(&mut self, title: &str) {
        self.text.push('\n');
        self.text.push_str(&paint(BOLD.underline(), title));
        self.text.push('\n');
    }

    /// How many are not shown.
    fn more(&mut self, of: usize) {
        if of > LISTED {
            self.line(DIM, 2, &format!("… and {} more: --json shows them", of - LISTED));
        }
    }

    /// Wrapped, every line indented.
    fn line(&mut self, style: Style, indent: usize, text: &str) {
        let text = printable(text);
        let margin = " ".repeat(indent);
        for line in textwrap::wrap(&text, self.width.saturating_sub(indent).max(1)) {
            self.text.push_str(&margin);
            self.text.push_str(&paint(style, &line));
            self.text.push('\n');
        }
    }

    /// Wrapped beside its mark.
    fn item(&mut self, mark: &str, indent: usize, text: &str) {
        let text = printable(text);
        let beside = indent + mark.len();
        let lines = textwrap::wrap(&text, self.width.saturating_sub(beside).max(1));
        for (at, line) in lines.iter().enumerate() {
            let begin = if at == 0 { format!("{}{mark}", " ".repeat(indent)) } else { " ".repeat(beside) };
            self.text.push_str(&format!("{begin}{line}\n"));
        }
    }

    /// The rest of a line that has begun, in several colours; what does not fit goes on below.
    fn item_after(&mut self, parts: &[(Style, &str)], indent: usize) {
        let mut column = indent;
        for (style, part) in parts {
            let wide = textwrap::core::display_width(part);
            if column > indent && column + wide > self.width {
                self.text.push_str(&format!("\n{}", " ".repeat(indent)));
                column = indent;
            }
            self.text.push_str(&paint(*style, if column == indent { part.trim_start() } else { part }));
            column += wide;
        }
        self.text.push('\n');
    }
}

/// What `docker ps` and `crictl ps` show of an id.
fn short(container: &str) -> String {
    container.chars().take(12).collect()
}

fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
