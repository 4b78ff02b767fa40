//! The table once, as text for people and pipes.

use jiff::Timestamp;
use textwrap::core::display_width;

use super::board::Board;
use super::cells::{cell, clipped, is_figure, lost, rate, title};
use super::row::{Column, Order, Row};

const COLUMNS: [Column; 10] = [
    Column::Upstream,
    Column::Scope,
    Column::Lost,
    Column::Rate,
    Column::Spark,
    Column::By,
    Column::Cause,
    Column::Seen,
    Column::Timeout,
    Column::Summary,
];
/// Width of the sparkline.
const PARTS: usize = 10;

/// The lines of the table; cut off at so many columns where standard output is a terminal.
#[must_use]
pub fn table(board: &Board, now: Timestamp, width: Option<usize>) -> Vec<String> {
    let rows = board.rows(now, Order::default(), &[]);
    if rows.is_empty() {
        return vec!["no verdicts in this time".to_owned()];
    }
    let titles = COLUMNS.map(|column| title(column).to_owned());
    let cells: Vec<_> = rows.iter().map(|row| COLUMNS.map(|column| cell(row, column, PARTS))).collect();
    let widths: Vec<_> = (0..COLUMNS.len())
        .map(|i| cells.iter().chain([&titles]).map(|cells| display_width(&cells[i])).max().unwrap_or(0))
        .collect();
    let mut lines: Vec<_> = [&titles]
        .into_iter()
        .chain(&cells)
        .map(|cells| {
            let line = line(cells, &widths);
            width.map_or_else(|| line.clone(), |width| clipped(&line, width))
        })
        .collect();
    lines.push(totals(board, &rows, now));
    lines
}

fn line(cells: &[String; COLUMNS.len()], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((column, cell), width) in COLUMNS.iter().zip(cells).zip(widths) {
        let blank = " ".repeat(width.saturating_sub(display_width(cell)));
        if is_figure(*column) {
            line.push_str(&blank);
            line.push_str(cell);
        } else {
            line.push_str(cell);
            line.push_str(&blank);
        }
        line.push_str("  ");
    }
    line.trim_end().to_owned()
}

fn totals(board: &Board, rows: &[Row<'_>], now: Timestamp) -> String {
    let upstreams = if rows.len() == 1 { "upstream" } else { "upstreams" };
    let mut text = format!(
        "{} lost at {} {upstreams}, rate {}",
        lost(board.counts()),
        rows.len(),
        rate(board.rate(now))
    );
    if board.fell_out() > 0 {
        text.push_str(&format!("; {} more upstreams made room", board.fell_out()));
    }
    if board.omitted() > 0 {
        text.push_str(&format!("; the agent left out {} verdicts", board.omitted()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture::{lost, now};

    #[test]
    fn columns_stand_below_their_titles() {
        let mut board = Board::default();
        board.take(lost("10.0.3.7:9000", 0));
        board.take(lost("unix:/run/\u{1b}[2J短い.sock", 0));
        let lines = table(&board, now(), None);
        assert_eq!(lines.len(), 4);
        let from = |line: &str, what: &str| display_width(&line[..line.find(what).unwrap()]);
        assert_eq!(from(&lines[0], "CAUSE"), from(&lines[1], "oom_killed"));
        assert_eq!(from(&lines[0], "CAUSE"), from(&lines[2], "oom_killed"));
        assert_eq!(lines[3], "2 lost at 2 upstreams, rate 2/min");
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
        assert!(table(&board, now(), Some(40)).iter().take(3).all(|line| display_width(line) <= 40));
        assert_eq!(table(&Board::default(), now(), None), ["no verdicts in this time"]);
    }
}
