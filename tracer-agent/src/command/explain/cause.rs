//! `rstrace explain CAUSE`: the section of docs/causes.md about a cause, as text for a terminal.

use std::io::Write as _;

use anstyle::Style;

use crate::command::Usage;
use crate::output::human::stdout_columns;
use crate::verdict::{Cause, Section};

/// Longer lines are hard to read.
const WIDEST: usize = 100;
/// Words that are at least this much alike (Jaro-Winkler, 0 to 1) may have been meant.
const ALIKE: f64 = 0.8;
/// Between the labels and the text.
const GAP: usize = 2;
/// Names offered in place of an unknown one.
const OFFERED: usize = 3;

/// Prints one section, or the list of all causes.
pub(super) fn run(name: Option<&str>) -> anyhow::Result<()> {
    let text = match name {
        None => list(width()),
        Some(name) => section(cause(name)?),
    };
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// All that the page says of a cause, for standard output.
pub(super) fn section(cause: Cause) -> String {
    explained(cause, width())
}

fn width() -> usize {
    stdout_columns().map_or(WIDEST, |columns| columns.min(WIDEST))
}

/// The cause of that name.
fn cause(name: &str) -> Result<Cause, Usage> {
    Cause::from_name(name).ok_or_else(|| {
        let shown: String = name.escape_debug().take(64).collect();
        let meant = alike(name);
        let meant =
            if meant.is_empty() { String::new() } else { format!("did you mean {}? ", meant.join(", ")) };
        Usage(format!("`{shown}` is no cause: {meant}`rstrace explain` lists them"))
    })
}

/// The names that are nearest to what was typed: best first.
fn alike(typed: &str) -> Vec<&'static str> {
    let mut near: Vec<(f64, &str)> = Cause::ALL
        .iter()
        .map(|cause| cause.name())
        .map(|name| {
            let part = typed.len() > 2 && name.split('_').any(|word| word == typed);
            (if part { 1.0 } else { strsim::jaro_winkler(typed, name) }, name)
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().map(|(_, name)| name).take(OFFERED).collect()
}

/// Every cause, by whom, and the first sentence about it.
fn list(width: usize) -> String {
    let mut text = String::new();
    for section in Cause::ALL.iter().filter_map(|cause| Section::of(*cause)) {
        let by = section.first_line.split(". ").next().unwrap_or_default();
        let meaning = section.paragraphs().next().map_or(String::new(), |(_, text)| plain(text));
        let sentence = meaning.split_inclusive(". ").next().unwrap_or_default().trim_end();
        text.push_str(&format!("{} ({})\n", bold(section.name), lowered(&plain(by))));
        text.push_str(&indented(sentence, width, 2 * GAP));
    }
    text + "\n`rstrace explain CAUSE` says more of one.\n"
}

/// All that the page says of one cause.
fn explained(cause: Cause, width: usize) -> String {
    let Some(section) = Section::of(cause) else { return String::new() };
    let mut text = format!("{}\n{}\n", bold(section.name), indented(&plain(section.first_line), width, 0));
    text.push_str(&table(section.paragraphs(), width));
    let legend = table(section.abbreviations(), width);
    if !legend.is_empty() {
        text.push_str(&format!("\n{legend}"));
    }
    text
}

/// Labels on the left, their text on the right.
fn table(rows: impl Iterator<Item = (&'static str, &'static str)>, width: usize) -> String {
    let rows: Vec<_> = rows.collect();
    let indent = rows.iter().map(|(label, _)| label.len() + GAP).max().unwrap_or(0);
    let mut text = String::new();
    for (label, paragraph) in rows {
        let paragraph = indented(&plain(paragraph), width, indent);
        // The label stands in the place of the first line's indent.
        text.push_str(&format!("{}{}", bold(label), &paragraph[label.len()..]));
    }
    text
}

/// Wrapped at `width`, every line indented.
fn indented(paragraph: &str, width: usize, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let lines = textwrap::wrap(paragraph, width.saturating_sub(indent).max(1));
    lines.iter().map(|line| format!("{margin}{line}\n")).collect()
}

/// Markdown without its marks, on one line.
fn plain(markdown: &str) -> String {
    let words: Vec<&str> = markdown.split_whitespace().collect();
    words.join(" ").replace("**", "").replace('`', "")
}

fn lowered(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

fn bold(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn every_cause_is_explained_within_the_width_and_without_markdown() {
        for cause in Cause::ALL {
            for width in [40, 80, 100] {
                let text = stripped(&explained(*cause, width));
                let longest = text.lines().map(|line| line.chars().count()).max();
                assert!(text.starts_with(cause.name()) && text.contains("\nDo "), "{cause}: {text}");
                assert!(
                    longest <= Some(width) && !text.contains("**") && !text.contains('`'),
                    "{cause}: {text}"
                );
            }
        }
    }

    #[test]
    fn the_list_has_every_cause_and_whose_it_is() {
        let text = stripped(&list(80));
        for cause in Cause::ALL {
            assert!(text.contains(&format!("{cause} (by ")), "{cause}: {text}");
        }
        assert!(text.contains("never_accepted (by upstream, gateway)\n    The connection was"), "{text}");
    }

    #[test]
    fn abbreviations_of_log_lines_are_spelled_out() {
        let text = stripped(&explained(Cause::NoListener, 100));
        assert!(text.contains("\nREF  nginx \"connect() failed (111: Connection refused)"), "{text}");
        assert!(!text.contains("\nPC "), "{text}");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        for (typed, meant) in [
            ("oom_kiled", "oom_killed"),
            ("oom-killed", "oom_killed"),
            ("timeout", "connect_timeout, gateway_connect_timeout, worker_timeout"),
            ("keepalive", "keepalive_race"),
        ] {
            let error = cause(typed).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean {meant}")), "{error}");
        }
        let error = cause("\u{1b}zz").unwrap_err().to_string();
        assert_eq!(error, "`\\u{1b}zz` is no cause: `rstrace explain` lists them");
    }
}
