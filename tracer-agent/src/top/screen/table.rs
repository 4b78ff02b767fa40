//! The table, and below it the last verdict of the selected row.

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use textwrap::core::display_width;

use super::{Look, TALL, put, row, row_below};
use crate::output::state::UpstreamState;
use crate::output::text::printable;
use crate::top::app::{App, Link};
use crate::top::cells::{cell, clipped, clipped_within, is_figure, lessons, title};
use crate::top::row::{Column, Order, Row};

/// Lines of the selected row's last verdict, with the one above it.
const LAST_VERDICT: u16 = 4;
/// Below this an upstream or a cause could not be told from others.
const LEAST: usize = 12;
/// Names of containers may be long.
const WIDEST_SCOPE: usize = 20;
const WIDEST_UPSTREAM: usize = 48;
/// Below this a sentence says nothing.
const LEAST_SUMMARY: usize = 24;

/// A column, where it begins and how wide it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    column: Column,
    x: usize,
    width: usize,
}

pub(super) fn draw(app: &App, now: Timestamp, look: Look, mut body: Rect, buffer: &mut Buffer) {
    let rows = app.rows(now);
    if rows.is_empty() {
        put(buffer, row(&mut body, 1), "", Style::new());
        put(buffer, body, &nothing(app), Style::new());
        return;
    }
    let selected = app.selected(&rows);
    if buffer.area().height >= TALL {
        let below = row_below(&mut body, LAST_VERDICT);
        last_verdict(app, &rows[selected], look, below, buffer);
    }
    let places = places(&rows, usize::from(body.width));
    titles(&places, app.order, row(&mut body, 1), buffer);
    let height = usize::from(body.height);
    // The selected row stands in the middle, as far as there are rows above and below it.
    let from = selected.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    for (y, (i, row)) in (body.y..body.bottom()).zip(rows.iter().enumerate().skip(from)) {
        let line = Rect { y, height: 1, ..body };
        for place in &places {
            put_cell(*place, row, look, line, buffer);
        }
        if i == selected {
            buffer.set_style(line, Look::selected());
        }
    }
}

fn nothing(app: &App) -> String {
    match &app.link {
        Link::Asked => "asking the agent for what it has kept …".to_owned(),
        _ if app.typed.is_empty() && app.given.is_empty() => {
            let since = app.since.to_zoned(app.zone.clone()).strftime("%H:%M:%S");
            format!("No request was lost since {since}, as far as the agent remembers.")
        }
        _ if app.typed.is_empty() => "Nothing that the filter lets through.".to_owned(),
        _ => "Nothing that the filter lets through; Esc takes away what was typed.".to_owned(),
    }
}

fn titles(places: &[Place], order: Order, area: Rect, buffer: &mut Buffer) {
    for place in places {
        let mut text = title(place.column).to_owned();
        if place.column == order.by {
            text.push(if order.reversed { '▲' } else { '▼' });
        }
        put_text(*place, &clipped(&text, place.width), Look::title(), area, buffer);
    }
}

fn put_cell(place: Place, row: &Row<'_>, look: Look, area: Rect, buffer: &mut Buffer) {
    let text = cell(row, place.column, place.width);
    let text = match place.column {
        Column::Upstream | Column::Scope => clipped_within(&text, place.width),
        _ => clipped(&text, place.width),
    };
    let style = match place.column {
        Column::Lost if row.rate.last_10s > 0 => look.alarm(),
        Column::Upstream | Column::Lost => Look::title(),
        Column::Summary => Look::quiet(),
        _ => Style::new(),
    };
    put_text(place, &text, style, area, buffer);
}

fn put_text(place: Place, text: &str, style: Style, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let blank = if is_figure(place.column) { place.width.saturating_sub(display_width(text)) } else { 0 };
    let x = area.x.saturating_add(u16::try_from(place.x + blank).unwrap_or(u16::MAX));
    if x < area.right() {
        buffer.set_stringn(x, area.y, text, place.width, style);
    }
}

/// Which columns fit, and where. What matters least goes first.
fn places(rows: &[Row<'_>], width: usize) -> Vec<Place> {
    let parts = match width {
        0..100 => 10,
        100..150 => 15,
        _ => 30,
    };
    let widest = |column, least: usize, most: usize| {
        let widest = rows.iter().map(|row| display_width(&cell(row, column, 1))).max().unwrap_or(0);
        widest.max(display_width(title(column)) + 1).clamp(least, most)
    };
    let elsewhere = rows.iter().any(|row| row.key.scope != "host");
    let scope = if elsewhere { widest(Column::Scope, 0, WIDEST_SCOPE) } else { 0 };
    let anything = rows.iter().any(|row| row.learned.is_some_and(UpstreamState::has_limits));
    let learned = if anything { widest(Column::Timeout, 0, 9) } else { 0 };
    let mut columns = vec![
        (Column::Upstream, widest(Column::Upstream, LEAST, WIDEST_UPSTREAM)),
        (Column::Scope, scope),
        (Column::Lost, widest(Column::Lost, 5, 14)),
        (Column::Rate, widest(Column::Rate, 7, 9)),
        (Column::Spark, parts),
        (Column::By, 8),
        (Column::Cause, widest(Column::Cause, LEAST, 30)),
        (Column::Seen, 4),
        (Column::Timeout, learned),
    ];
    columns.retain(|(_, width)| *width > 0);
    fit(&mut columns, width);
    let used = needed(&columns);
    if width > used + LEAST_SUMMARY {
        columns.push((Column::Summary, width - used - 1));
    }
    let mut x = 0;
    columns
        .into_iter()
        .map(|(column, width)| {
            let place = Place { column, x, width };
            x += width + 1;
            place
        })
        .collect()
}

fn needed(columns: &[(Column, usize)]) -> usize {
    columns.iter().map(|(_, width)| width + 1).sum::<usize>().saturating_sub(1)
}

/// Makes columns narrower or leaves them out until they fit.
fn fit(columns: &mut Vec<(Column, usize)>, width: usize) {
    let over = |columns: &[(Column, usize)]| needed(columns).saturating_sub(width);
    let narrow = |columns: &mut [(Column, usize)], which: Column, least: usize| {
        let too_much = over(columns);
        if let Some((_, width)) = columns.iter_mut().find(|(column, _)| *column == which) {
            *width = (*width).saturating_sub(too_much).max(least.min(*width));
        }
    };
    narrow(columns, Column::Upstream, 24);
    narrow(columns, Column::Scope, 8);
    narrow(columns, Column::Cause, 16);
    narrow(columns, Column::Upstream, 18);
    narrow(columns, Column::Scope, 6);
    narrow(columns, Column::Cause, 14);
    for which in [Column::Timeout, Column::Scope, Column::Spark, Column::By, Column::Seen, Column::Rate] {
        if over(columns) > 0 {
            columns.retain(|(column, _)| *column != which);
        }
    }
    narrow(columns, Column::Cause, LEAST);
    narrow(columns, Column::Upstream, LEAST);
    if over(columns) > 0 {
        columns.retain(|(column, _)| *column != Column::Cause);
    }
    narrow(columns, Column::Upstream, 1);
}

/// What happened last at the selected upstream, in full.
fn last_verdict(app: &App, row: &Row<'_>, look: Look, area: Rect, buffer: &mut Buffer) {
    let latest = &row.upstream.latest;
    let mut rest = area;
    let width = usize::from(area.width);
    let causes: Vec<_> =
        row.upstream.endings().iter().map(|(_, cause, count)| format!("{cause} {count}")).collect();
    let seen_from = match row.key.scope.as_str() {
        "host" => String::new(),
        scope => format!(" seen from {}", printable(scope)),
    };
    let head = format!("── {}{seen_from}: {} ", printable(&row.key.target), causes.join(", "));
    let head = clipped(&head, width);
    let rule = "─".repeat(width.saturating_sub(display_width(&head)));
    put(buffer, super::row(&mut rest, 1), &(head + &rule), Look::title());
    let time = latest.time.to_zoned(app.zone.clone()).strftime("%H:%M:%S%.3f");
    let mut line = format!("{time}  by {}  {}  {}", latest.by, latest.impact, latest.confidence);
    if let Some(lesson) = row.learned.and_then(|learned| lessons(learned).into_iter().next()) {
        line = clipped(&format!("{line}; {lesson}"), width);
    }
    put(buffer, super::row(&mut rest, 1), &line, look.notice());
    let sentence = printable(&latest.summary);
    let mut lines = textwrap::wrap(&sentence, width.max(1));
    let height = usize::from(rest.height);
    if lines.len() > height {
        lines.truncate(height);
        if let Some(last) = lines.last_mut() {
            *last = clipped(&format!("{last} …"), width).into();
        }
    }
    for line in lines {
        put(buffer, super::row(&mut rest, 1), &line, Style::new());
    }
}
