//! A verdict as a line for people.
//!
//! On a terminal the sentence wraps below itself, or onto lines of its own where the terminal is narrow; in a
//! pipe one verdict is one line. Text that processes chose is made safe first: see `output::text`.

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::text::printable;
use super::{Omitted, VerdictView};
use crate::verdict::{Confidence, Impact};

/// Widths of the columns before the sentence: the longest usual word of each.
const COLUMNS: [(&str, usize); 5] =
    [("time", 12), ("upstream", 21), ("by", 8), ("cause", 23), ("impact", 18)];
/// Between columns.
const GAP: &str = "  ";
/// Below this a sentence beside the columns would be a tower of single words.
const LEAST_SENTENCE: usize = 44;
/// Longer names of upstreams are left to the sentence and to JSON.
const LONGEST_NAME: usize = 24;
/// Where the sentence begins if it does not fit beside the columns: below the address.
const NARROW_INDENT: usize = 14;

/// Spells verdicts for people.
#[derive(Clone, Debug)]
pub struct Human {
    zone: TimeZone,
    width: Width,
}

/// How long a line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One verdict, one line.
    Endless,
    Fixed(usize),
    /// Whatever standard output has when the line is made, since windows change their size.
    Stdout,
}

// === impl Human ===

impl Human {
    #[must_use]
    pub fn new(zone: TimeZone, width: Width) -> Self {
        Self { zone, width }
    }

    /// For standard output, in the time zone of this host.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(TimeZone::system(), Width::Stdout)
    }

    /// The titles of the columns, once before the first line.
    #[must_use]
    pub fn header(&self, now: jiff::Timestamp) -> String {
        let mut titles = String::new();
        for (title, width) in COLUMNS {
            titles.push_str(&format!("{title:width$}{GAP}"));
        }
        let offset = now.to_zoned(self.zone.clone()).strftime("%:z").to_string();
        titles.push_str(&format!("what happened (times are UTC{offset})"));
        let titles = match self.columns() {
            // Wrapped titles explain nothing.
            Some(columns) => titles.chars().take(columns).collect(),
            None => titles,
        };
        paint(Style::new().dimmed(), &titles)
    }

    /// One verdict.
    #[must_use]
    pub fn line(&self, view: &VerdictView) -> String {
        let time = view.time.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string();
        let address = address(view);
        let words = [&time, &*address, view.by.name(), view.cause.name(), view.impact.name()];
        let impact = impact_style(view.impact);
        let styles = [Style::new().dimmed(), Style::new().bold(), Style::new(), Style::new().bold(), impact];

        let mut line = String::new();
        let mut beside = 0;
        for (i, word) in words.iter().enumerate() {
            let width = COLUMNS[i].1.max(word.chars().count());
            beside += width + GAP.len();
            line.push_str(&paint(styles[i], word));
            line.push_str(&" ".repeat(width - word.chars().count()));
            line.push_str(GAP);
        }
        let sentence = sentence(view);
        let Some(columns) = self.columns() else { return line + &sentence };
        if columns >= beside + LEAST_SENTENCE {
            return line + &wrapped(&sentence, columns, beside);
        }
        format!(
            "{}\n{}{}",
            line.trim_end(),
            " ".repeat(NARROW_INDENT),
            wrapped(&sentence, columns, NARROW_INDENT)
        )
    }

    /// Lines that are missing.
    #[must_use]
    pub fn omitted(&self, omitted: &Omitted) -> String {
        let lines = if omitted.count == 1 { "line" } else { "lines" };
        let text = format!("… {} {lines} left out: {}", omitted.count, printable(&omitted.why));
        paint(AnsiColor::Yellow.on_default(), &text)
    }

    fn columns(&self) -> Option<usize> {
        match self.width {
            Width::Endless => None,
            Width::Fixed(columns) => Some(columns),
            Width::Stdout => stdout_columns(),
        }
    }
}

/// Columns of the terminal; None where standard output is none.
#[must_use]
pub fn stdout_columns() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// The address, and what the gateway calls it where that leaves room for the sentence.
fn address(view: &VerdictView) -> String {
    let address = printable(view.upstream.as_deref().or(view.listener.as_deref()).unwrap_or("-"));
    match view.upstream_name.as_deref().map(printable) {
        Some(name) if name.chars().count() <= LONGEST_NAME => format!("{address} ({name})"),
        _ => address.into_owned(),
    }
}

/// The summary, and how sure it is where it is not certain.
fn sentence(view: &VerdictView) -> String {
    let mut doubts = Vec::new();
    if view.confidence == Confidence::Inferred {
        doubts.push("inferred".to_owned());
    }
    if !view.alternatives.is_empty() {
        let names: Vec<_> = view.alternatives.iter().map(|c| c.name()).collect();
        doubts.push(format!("or {}", names.join(", ")));
    }
    let summary = printable(&view.summary);
    if doubts.is_empty() { summary.into_owned() } else { format!("{summary} ({})", doubts.join("; ")) }
}

/// Wraps at `columns`, every line but the first indented: the first one begins at `indent` already.
fn wrapped(sentence: &str, columns: usize, indent: usize) -> String {
    let width = columns.saturating_sub(indent).max(1);
    textwrap::wrap(sentence, width).join(&format!("\n{}", " ".repeat(indent)))
}

fn impact_style(impact: Impact) -> Style {
    match impact {
        Impact::ConnectFailed | Impact::RequestLost | Impact::ResponseTruncated => {
            AnsiColor::Red.on_default()
        }
        Impact::Unknown => AnsiColor::Yellow.on_default(),
        Impact::None => Style::new().dimmed(),
    }
}

fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::fixture;
    use crate::verdict::{Cause, Verdict};

    const LONG: &str = "nginx[812] lost a request 1.204 s old: php-fpm[4242] was OOM-killed (cgroup \
                        /kubepods/api) and took 37 connections with it";

    fn human(width: Width) -> Human {
        Human::new(TimeZone::fixed(jiff::tz::offset(2)), width)
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn line(width: Width, verdict: &Verdict) -> String {
        plain(&human(width).line(&fixture::view(verdict)))
    }

    #[test]
    fn in_a_pipe_one_verdict_is_one_line() {
        let verdict = Verdict { summary: LONG.to_owned(), ..fixture::oom_killed() };
        assert_eq!(
            line(Width::Endless, &verdict),
            format!(
                "14:03:07.412  10.0.3.7:9000          upstream  oom_killed               request_lost        {LONG}"
            )
        );
    }

    #[test]
    fn on_a_wide_terminal_the_sentence_wraps_below_itself() {
        let verdict = Verdict { summary: LONG.to_owned(), ..fixture::oom_killed() };
        let text = line(Width::Fixed(150), &verdict);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|l| l.chars().count() <= 150), "{text}");
        assert!(lines[1].starts_with(&" ".repeat(92)) && !lines[1].starts_with(&" ".repeat(93)), "{text}");
    }

    #[test]
    fn on_a_narrow_terminal_the_sentence_has_its_own_lines() {
        let verdict = Verdict { summary: LONG.to_owned(), ..fixture::oom_killed() };
        let text = line(Width::Fixed(80), &verdict);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with("request_lost"), "{text}");
        assert!(lines[1].starts_with("              nginx[812]"), "{text}");
        assert!(lines[1..].iter().all(|l| l.chars().count() <= 80), "{text}");
    }

    #[test]
    fn an_escape_sequence_in_a_name_does_not_reach_the_terminal() {
        let verdict = Verdict {
            summary: "\u{1b}]0;owned\u{7}x[1] closed\r\nfake line\u{9b}2J".to_owned(),
            ..fixture::oom_killed()
        };
        let text = human(Width::Endless).line(&fixture::view(&verdict));
        // What is left of escapes are the line's own colours.
        assert!(!plain(&text).contains(char::is_control), "{text:?}");
        assert!(text.contains("\\u{1b}]0;owned\\u{7}x[1] closed\\u{d}\\u{a}fake line\\u{9b}2J"), "{text:?}");
    }

    #[test]
    fn doubt_is_said() {
        let verdict = Verdict {
            confidence: Confidence::Inferred,
            alternatives: vec![Cause::FirewallRejected],
            ..fixture::oom_killed()
        };
        let text = line(Width::Endless, &verdict);
        assert!(text.ends_with("nginx[812] lost a request (inferred; or firewall_rejected)"), "{text}");
    }

    #[test]
    fn the_name_of_an_upstream_stands_behind_its_address() {
        let upstream = Some(crate::event::Target::Tcp(fixture::CONFIGURED));
        let text = line(Width::Endless, &Verdict { upstream, ..fixture::oom_killed() });
        assert!(text.starts_with("14:03:07.412  10.0.3.8:9000 (api)    upstream  oom_killed"), "{text}");
    }

    #[test]
    fn the_header_names_the_columns_and_the_clock() {
        let header = plain(&human(Width::Endless).header(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(
            header,
            "time          upstream               by        cause                    impact              what \
             happened (times are UTC+02:00)"
        );
        assert_eq!(plain(&human(Width::Fixed(20)).header(jiff::Timestamp::UNIX_EPOCH)).len(), 20);
    }

    #[test]
    fn missing_lines_are_said() {
        let text = plain(&human(Width::Endless).omitted(&Omitted::new(1, "slow")));
        assert_eq!(text, "… 1 line left out: slow");
    }

    proptest! {
        #[test]
        fn any_text_fits_any_width(summary in "\\PC*", columns in 0usize..300) {
            let verdict = Verdict { summary, ..fixture::oom_killed() };
            let text = line(Width::Fixed(columns), &verdict);
            prop_assert!(text.lines().count() >= 1);
        }
    }
}
