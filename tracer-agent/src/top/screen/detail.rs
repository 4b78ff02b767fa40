//! One upstream: its last verdicts with their evidence.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::style::Style;
use ratatui::text::Line;

use super::Look;
use crate::output::VerdictView;
use crate::output::state::UpstreamState;
use crate::output::text::printable;
use crate::top::board::Key;
use crate::top::cells::{ago, lessons, lost, rate};
use crate::top::upstream::Upstream;

/// Text below a verdict stands so far to the right.
const INDENT: &str = "  ";

/// All of it, however long it is.
pub(super) fn lines(
    key: &Key,
    upstream: &Upstream,
    learned: Option<&UpstreamState>,
    zone: &TimeZone,
    now: Timestamp,
    width: u16,
    look: Look,
) -> Vec<Line<'static>> {
    let mut page = Page { lines: Vec::new(), width: usize::from(width).max(8) };
    let time = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string();
    let seen_from = match key.scope.as_str() {
        "host" => String::new(),
        scope => format!(", seen from {scope}"),
    };
    page.text("", "", &format!("{}{seen_from}", key.target), Look::title());
    let figures = format!(
        "{} lost, {}; first {}, last {} ({} ago)",
        lost(upstream.counts),
        rate(upstream.pace.rate(now)),
        time(upstream.first),
        time(upstream.last),
        ago(upstream.last, now)
    );
    page.text("", "", &figures, Style::new());
    for (by, cause, count) in upstream.endings() {
        page.text(INDENT, INDENT, &format!("{count} x {cause} by {by}"), Style::new());
    }
    for lesson in learned.map(lessons).unwrap_or_default() {
        page.text(INDENT, INDENT, &lesson, look.notice());
    }
    for view in upstream.verdicts() {
        page.gap();
        verdict(&mut page, view, &time(view.time), look);
    }
    if upstream.fell_out() > 0 {
        page.gap();
        let text = format!("{} older verdicts are counted and no longer kept here", upstream.fell_out());
        page.text("", "", &text, Look::quiet());
    }
    page.lines
}

fn verdict(page: &mut Page, view: &VerdictView, time: &str, look: Look) {
    let head = format!("{time}  {}  {}  by {}  {}", view.cause, view.impact, view.by, view.confidence);
    page.text("", INDENT, &head, look.notice());
    page.text(INDENT, INDENT, &view.summary, Style::new());
    if !view.alternatives.is_empty() {
        let names: Vec<_> = view.alternatives.iter().map(|cause| cause.name()).collect();
        page.text(INDENT, INDENT, &format!("or {}", names.join(", ")), Style::new());
    }
    for evidence in &view.evidence {
        page.text("  - ", "    ", evidence, Style::new());
    }
    page.text(INDENT, INDENT, &figures(view), Look::quiet());
}

/// The figures of the connection.
fn figures(view: &VerdictView) -> String {
    let connection = &view.connection;
    let mut parts = Vec::new();
    if let (Some(local), Some(peer)) = (&view.local, &view.peer) {
        parts.push(format!("{local} -> {peer}"));
    }
    if let Some(owner) = &view.owner {
        parts.push(format!("{}[{}]", owner.comm, owner.pid));
    }
    let sent = connection.bytes_sent.map_or_else(|| "?".to_owned(), |sent| sent.to_string());
    parts.push(format!("{sent} B sent, {} B received", connection.bytes_received));
    if let Some(age) = connection.age_ms {
        parts.push(format!("{age:.0} ms old"));
    }
    if connection.reused == Some(true) {
        parts.push("reused".to_owned());
    }
    if connection.retransmits > 0 {
        parts.push(format!("{} retransmits", connection.retransmits));
    }
    parts.push(format!("cookie {}", connection.cookie));
    parts.join(", ")
}

struct Page {
    lines: Vec<Line<'static>>,
    width: usize,
}

impl Page {
    /// Text from anywhere, made safe and wrapped.
    fn text(&mut self, first: &str, next: &str, text: &str, style: Style) {
        let text = printable(text);
        let options = textwrap::Options::new(self.width).initial_indent(first).subsequent_indent(next);
        self.lines.extend(
            textwrap::wrap(&text, options).into_iter().map(|line| Line::styled(line.into_owned(), style)),
        );
    }

    fn gap(&mut self) {
        self.lines.push(Line::default());
    }
}
