//! How the values of a row are spelled in few columns.

use jiff::Timestamp;
use textwrap::core::display_width;

use super::pace::Rate;
use super::row::{Column, Row};
use super::upstream::Counts;
use crate::output::sparkline::sparkline;
use crate::output::state::UpstreamState;
use crate::output::text::printable;

/// The cell of a row in a column; `parts` is the width of the sparkline.
#[must_use]
pub fn cell(row: &Row<'_>, column: Column, parts: usize) -> String {
    let latest = &row.upstream.latest;
    match column {
        Column::Upstream => printable(&row.key.target).into_owned(),
        Column::Scope => printable(&row.key.scope).into_owned(),
        Column::Lost => lost(row.upstream.counts),
        Column::Rate => rate(row.rate),
        Column::Spark => sparkline(&row.upstream.pace.parts(row.now, parts)),
        Column::By => latest.by.name().to_owned(),
        Column::Cause => match row.upstream.causes() {
            0 | 1 => latest.cause.name().to_owned(),
            causes => format!("{} +{}", latest.cause.name(), causes - 1),
        },
        Column::Seen => ago(row.upstream.last, row.now),
        Column::Timeout => row.learned.map_or_else(|| "-".to_owned(), timeout),
        Column::Summary => printable(&latest.summary).into_owned(),
    }
}

/// The title of a column.
#[must_use]
pub fn title(column: Column) -> &'static str {
    match column {
        Column::Upstream => "UPSTREAM",
        Column::Scope => "SEEN FROM",
        Column::Lost => "LOST",
        Column::Rate => "RATE",
        Column::Spark => "LAST 15MIN",
        Column::By => "BY",
        Column::Cause => "CAUSE",
        Column::Seen => "AGO",
        Column::Timeout => "TIMEOUT",
        Column::Summary => "LAST TIME",
    }
}

/// Whether a column is of figures, which stand at its right edge.
#[must_use]
pub fn is_figure(column: Column) -> bool {
    matches!(column, Column::Lost | Column::Rate | Column::Seen | Column::Timeout)
}

/// What was lost, and with a question mark what may have been.
#[must_use]
pub fn lost(counts: Counts) -> String {
    match counts.unsure {
        0 => short(counts.lost),
        unsure if counts.lost == 0 => format!("{}?", short(unsure)),
        unsure => format!("{}+{}?", short(counts.lost), short(unsure)),
    }
}

/// In the second if it is that often, else in the minute.
#[must_use]
pub fn rate(rate: Rate) -> String {
    match rate {
        Rate { last_10s: n, .. } if n >= 1_000 => format!("{}/s", short(u64::from(n / 10))),
        Rate { last_10s: n, .. } if n >= 10 => format!("{}.{}/s", n / 10, n % 10),
        Rate { last_minute: 0, .. } => "-".to_owned(),
        Rate { last_minute: n, .. } => format!("{n}/min"),
    }
}

/// The age at which the upstream gives up requests; with `gw`, at which the gateway does.
fn timeout(learned: &UpstreamState) -> String {
    match (&learned.upstream_timeout, learned.gateway_timeouts.first()) {
        (Some(timeout), _) => seconds(timeout.age_ms),
        (None, Some(timeout)) => format!("gw {}", seconds(timeout.age_ms)),
        (None, None) => "-".to_owned(),
    }
}

/// With as many digits as say something.
#[must_use]
pub fn seconds(ms: f64) -> String {
    if ms < 10_000.0 { format!("{:.2}s", ms / 1e3) } else { format!("{:.1}s", ms / 1e3) }
}

/// All that was learned of an upstream, in sentences.
#[must_use]
pub fn lessons(learned: &UpstreamState) -> Vec<String> {
    let mut lessons = learned.limits();
    if learned.listener.as_ref().is_some_and(|listener| !listener.listening) {
        lessons.push("nothing listens there now".to_owned());
    }
    lessons
}

/// Five columns at most: 99999, then 100k, 100M.
fn short(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        100_000..100_000_000 => format!("{}k", n / 1_000),
        _ => format!("{}M", n / 1_000_000),
    }
}

/// How long ago, in the largest unit: 5s, 12m, 3h, 2d.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs().max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// The text if it fits, else its beginning and an ellipsis.
#[must_use]
pub fn clipped(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut out = beginning(text, width.saturating_sub(1));
    if width > 0 {
        out.push('…');
    }
    out
}

/// The text if it fits, else its beginning and its end, which says more of an address or a path.
#[must_use]
pub fn clipped_within(text: &str, width: usize) -> String {
    if display_width(text) <= width || width < 4 {
        return clipped(text, width);
    }
    let head = beginning(text, (width - 1) / 3);
    let room = width - 1 - display_width(&head);
    let mut used = 0;
    let tail: Vec<char> = text
        .chars()
        .rev()
        .take_while(|c| {
            used += display_width(c.encode_utf8(&mut [0; 4]));
            used <= room
        })
        .collect();
    head + "…" + &tail.into_iter().rev().collect::<String>()
}

/// As much from the front as fits.
fn beginning(text: &str, width: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            used += display_width(c.encode_utf8(&mut [0; 4]));
            used <= width
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::state::{TimeoutView, WaitedFor};
    use proptest::prelude::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(lost(Counts { lost: 12, unsure: 0, harmless: 5 }), "12");
        assert_eq!(lost(Counts { lost: 0, unsure: 3, harmless: 0 }), "3?");
        assert_eq!(lost(Counts { lost: 123_456, unsure: 3, harmless: 0 }), "123k+3?");
        for (last_10s, last_minute, text) in [
            (0, 0, "-"),
            (0, 4, "4/min"),
            (9, 9, "9/min"),
            (10, 10, "1.0/s"),
            (999, 5_000, "99.9/s"),
            (10_000, 1, "1000/s"),
        ] {
            assert_eq!(rate(Rate { last_10s, last_minute }), text);
        }
        let at = |second| Timestamp::from_second(second).unwrap();
        for (seconds, text) in [(-5, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (200_000, "2d")] {
            assert_eq!(ago(at(0), at(seconds)), text);
        }
    }

    #[test]
    fn what_was_learned_is_said_in_short_and_in_full() {
        let timeout = |waited_for, age_ms| TimeoutView { waited_for, age_ms, times: 14, of: 15 };
        let mut learned = UpstreamState {
            upstream: "10.0.3.7:9000".to_owned(),
            scope: "host".to_owned(),
            upstream_timeout: None,
            gateway_timeouts: vec![timeout(WaitedFor::Answer, 60_000.0)],
            idle_limit_ms: Some(5_000.0),
            listener: None,
        };
        assert_eq!(super::timeout(&learned), "gw 60.0s");
        learned.upstream_timeout = Some(timeout(WaitedFor::Answer, 4_002.0));
        assert_eq!(super::timeout(&learned), "4.00s");
        assert_eq!(
            lessons(&learned),
            [
                "gives up requests after 4.00 s (14 of the last 15): a timeout of its own",
                "the gateway gives up waiting for an answer after 60.00 s (14 of the last 15)",
                "closes idle connections after 5.00 s: keep them for less (nginx: keepalive_timeout 4s)",
            ]
        );
    }

    #[test]
    fn an_address_keeps_its_end() {
        assert_eq!(clipped_within("unix:/run/php/php8.2-fpm.sock", 16), "unix:…2-fpm.sock");
        assert_eq!(clipped("gateway_rejected_response", 10), "gateway_r…");
        assert_eq!(clipped_within("短い名前のソケット", 7), "短…ット");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_it_may_be(text in "\\PC*", width in 0_usize..40) {
            prop_assert!(display_width(&clipped(&text, width)) <= width);
            prop_assert!(display_width(&clipped_within(&text, width)) <= width);
        }
    }
}
