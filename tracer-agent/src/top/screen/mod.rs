//! Draws the screen. Pure: what the keys have chosen and a moment in, cells out.
//!
//! Nothing is said by colour alone, and nothing that processes chose reaches the screen unescaped.

mod detail;
mod help;
mod table;

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::app::{App, Link, Open};
use super::cells::{clipped, lost, rate};
use crate::output::text::printable;

/// From this height on there is room for the last verdict of the selected row.
const TALL: u16 = 15;

/// How things look, with colours or without.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub colours: bool,
}

impl Look {
    fn title() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn quiet() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn selected() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn alarm(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn notice(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Rows on a page of this height.
#[must_use]
pub fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(if height >= TALL { 7 } else { 3 })).max(1)
}

/// Draws everything, and says where the cursor is, if there is one. Scrolling that went too far is taken back.
pub fn draw(app: &mut App, now: Timestamp, look: Look, buffer: &mut Buffer) -> Option<Position> {
    let area = *buffer.area();
    if area.height == 0 || area.width == 0 {
        return None;
    }
    app.refresh();
    let mut body = area;
    headline(app, now, look, row(&mut body, 1), buffer);
    let notices = notices(app);
    if !notices.is_empty() && area.height > 4 {
        put(buffer, row(&mut body, 1), &notices, look.notice());
    }
    let foot = (area.height > 2).then(|| row_below(&mut body, 1));
    let colours = look;
    let learned = match &app.open {
        Open::Upstream { key, .. } => app.board().learned(key).cloned(),
        _ => None,
    };
    match &mut app.open {
        Open::Upstream { key, shown, scroll } => {
            let lines = detail::lines(key, shown, learned.as_ref(), &app.zone, now, body.width, colours);
            scrolled(&lines, scroll, body, buffer);
        }
        Open::Help { scroll } => scrolled(&help::lines(), scroll, body, buffer),
        Open::Table | Open::Typing { .. } => table::draw(app, now, look, body, buffer),
    }
    foot.and_then(|foot| footline(app, look, foot, buffer))
}

/// What is counted, since when, and whether it is live.
fn headline(app: &App, now: Timestamp, look: Look, area: Rect, buffer: &mut Buffer) {
    let (state, style) = match (&app.link, app.paused()) {
        (_, Some((_, 0))) => ("PAUSED".to_owned(), look.notice()),
        (_, Some((_, came))) => (format!("PAUSED, {came} more"), look.notice()),
        (Link::Gone(_), _) => ("NO AGENT".to_owned(), look.alarm()),
        (Link::Asked, _) => ("asking".to_owned(), Style::new()),
        (Link::Live, _) => ("live".to_owned(), look.good()),
    };
    let width = usize::from(area.width);
    let right = clipped(&state, width);
    let board = app.board();
    let moment = app.moment(now);
    let since = app.since.to_zoned(app.zone.clone()).strftime("%H:%M:%S");
    let count = format!("{} lost", lost(board.counts()));
    let mut parts = vec![count, format!("rate {}", rate(board.rate(moment))), format!("since {since}")];
    if !app.host.is_empty() {
        parts.push(format!("on {}", printable(&app.host)));
    }
    let room = width.saturating_sub(right.chars().count() + 2);
    let mut left = "rstrace top".to_owned();
    if room < 40 {
        left.clear();
    }
    for part in parts {
        let longer = if left.is_empty() { part } else { format!("{left}  {part}") };
        if longer.chars().count() > room && !left.is_empty() {
            break;
        }
        left = longer;
    }
    put(buffer, area, &clipped(&left, room), Look::title());
    let from = area.right().saturating_sub(u16::try_from(right.chars().count()).unwrap_or(u16::MAX));
    buffer.set_stringn(from.max(area.x), area.y, &right, width, style);
}

/// What somebody has to know to read the figures right.
fn notices(app: &App) -> String {
    let mut notices = Vec::new();
    if let Link::Gone(why) = &app.link {
        notices.push(format!("{}; asking again every second", printable(why)));
    }
    let filter = [app.given.as_str(), app.typed.as_str()].join(" ");
    if !filter.trim().is_empty() {
        notices.push(format!("only: {}", printable(filter.trim())));
    }
    let board = app.board();
    if board.omitted() > 0 {
        notices.push(format!("{} verdicts left out by the agent", board.omitted()));
    }
    if board.fell_out() > 0 {
        notices.push(format!("{} upstreams with few losses made room", board.fell_out()));
    }
    notices.join("; ")
}

/// The keys, or what is typed.
fn footline(app: &App, look: Look, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    let keys = match &app.open {
        Open::Table if area.width < 60 => "Enter evidence  / filter  ? help  q quit",
        Open::Table => "Enter evidence  s sort  r reverse  / filter  space pause  ? help  q quit",
        Open::Upstream { .. } => "up/down PgUp/PgDn scroll  space pause  q back",
        Open::Help { .. } => "up/down scroll  q back",
        Open::Typing { text, error } => return Some(typing(text, error.as_deref(), look, area, buffer)),
    };
    put(buffer, area, keys, Look::quiet());
    None
}

fn typing(text: &str, error: Option<&str>, look: Look, area: Rect, buffer: &mut Buffer) -> Position {
    let width = usize::from(area.width);
    let text = printable(text);
    // The end of what is typed has to be seen.
    let skip = (text.chars().count() + 2).saturating_sub(width);
    let shown: String = "/".chars().chain(text.chars()).skip(skip).collect();
    let (end, _) = buffer.set_stringn(area.x, area.y, &shown, width, Style::new());
    let after = end.saturating_add(2);
    let room = usize::from(area.right().saturating_sub(after));
    let hint = "Enter applies, Esc leaves: by=upstream cause=oom_killed 10.0.3.7";
    match error {
        Some(error) => {
            let error = printable(error);
            // Rather what is wrong than what was typed.
            buffer.set_stringn(after, area.y, clipped(&error, room), room, look.alarm());
        }
        None => {
            buffer.set_stringn(after, area.y, clipped(hint, room), room, Look::quiet());
        }
    }
    Position::new(end.min(area.right().saturating_sub(1)), area.y)
}

/// As many of the lines as fit, from `scroll` on.
fn scrolled(lines: &[Line<'_>], scroll: &mut usize, area: Rect, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    *scroll = (*scroll).min(lines.len().saturating_sub(height));
    for (y, line) in (area.y..area.bottom()).zip(&lines[*scroll..]) {
        buffer.set_line(area.x, y, line, area.width);
    }
}

fn put(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    if area.height > 0 {
        let width = usize::from(area.width);
        buffer.set_stringn(area.x, area.y, clipped(text, width), width, style);
    }
}

/// Takes rows off the top.
fn row(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    let taken = Rect { height: rows, ..*area };
    area.y += rows;
    area.height -= rows;
    taken
}

/// Takes rows off the bottom.
fn row_below(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    area.height -= rows;
    Rect { y: area.bottom(), height: rows, ..*area }
}

#[cfg(test)]
mod tests;
