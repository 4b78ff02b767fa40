//! A failure beside its verdict, as text or as JSON.

use anstyle::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::tally::Tally;
use crate::output::VerdictView;
use crate::output::human::{Human, stdout_columns};
use crate::output::text::{printable, printable_json};
use crate::output::view::SCHEMA;
use crate::proxy_log::{Format, JoinedBy, NotJoined, Outcome, Pair};

/// Before what continues a line.
const INDENT: usize = 14;

/// How pairs are spelled.
pub(super) struct Spelling {
    proxy: &'static str,
    advice: Option<&'static str>,
    /// None for JSON.
    human: Option<Human>,
    zone: TimeZone,
}

/// A failure in JSON. Every key is always there; unknown is null.
#[derive(Serialize)]
struct FailureLine<'a> {
    schema: u32,
    kind: &'static str,
    proxy: &'static str,
    line: u64,
    /// When it happened, as exactly as the log says it: from then on, and before that.
    from: Timestamp,
    until: Timestamp,
    upstream: Option<String>,
    class: &'static str,
    said: &'a str,
    /// `upstream`, `local_port` or `time`: what joins them besides the time.
    joined_by: Option<&'static str>,
    /// Other verdicts that would have fitted as well.
    others: usize,
    /// What only the log can know.
    meaning: Option<&'static str>,
    not_joined: Option<&'static str>,
    why: Option<String>,
    verdict: Option<&'a VerdictView>,
}

/// The last line in JSON.
#[derive(Serialize)]
struct TotalLine {
    schema: u32,
    kind: &'static str,
    lines: u64,
    failures: u64,
    joined: u64,
    joined_by_time: u64,
    log_alone: u64,
    not_joined: u64,
    why: Vec<Why>,
    outside: u64,
    filtered: u64,
    other_lines: u64,
    unknown_lines: u64,
    memory_begins: Option<Timestamp>,
    /// What to add to the proxy's configuration.
    advice: Option<&'static str>,
}

#[derive(Serialize)]
struct Why {
    not_joined: &'static str,
    why: String,
    count: u64,
}

impl Spelling {
    pub(super) fn new(json: bool, format: &Format) -> Self {
        let human = (!json).then(Human::stdout);
        Self { proxy: format.proxy(), advice: format.advice(), human, zone: TimeZone::system() }
    }

    /// One failure, without the last line feed.
    pub(super) fn pair(&self, pair: &Pair, verdict: Option<&VerdictView>) -> String {
        match &self.human {
            Some(human) => self.text(pair, verdict, human),
            None => self.json(pair, verdict),
        }
    }

    /// How it went in all.
    pub(super) fn total(&self, tally: &Tally) -> String {
        let advice = self.advice.filter(|_| tally.nameless);
        if self.human.is_some() { self.total_text(tally, advice) } else { total_json(tally, advice) }
    }

    /// What the proxy said, and below what really happened.
    fn text(&self, Pair { failure, outcome }: &Pair, verdict: Option<&VerdictView>, human: &Human) -> String {
        let dimmed = Style::new().dimmed();
        let how = match outcome {
            Outcome::Joined { by: JoinedBy::Time, others: 0, .. } => " (joined by the time alone)".to_owned(),
            Outcome::Joined { by: JoinedBy::Time, others, .. } => {
                format!(" (joined by the time alone; {others} other verdicts of that time would fit)")
            }
            _ => String::new(),
        };
        let head = format!("{} line {}:", self.proxy, failure.line);
        let mut text = format!("{dimmed}{head}{dimmed:#} {}{how}\n", printable(&failure.said));
        let more = match (verdict, outcome) {
            (Some(view), _) => {
                text.push_str(&human.line(view));
                failure.class.meaning().map(|meaning| format!("{:INDENT$}{meaning}", ""))
            }
            (None, Outcome::LogAlone(meaning)) => Some(self.row(failure, meaning)),
            (None, Outcome::NotJoined(why)) => Some(self.row(failure, &format!("not joined: {why}"))),
            (None, Outcome::Joined { .. }) => None,
        };
        if let Some(more) = more {
            if verdict.is_some() {
                text.push('\n');
            }
            text.push_str(&wrapped(&more));
        }
        text
    }

    /// Time and upstream in the columns of a verdict, then words.
    fn row(&self, failure: &crate::proxy_log::Failure, words: &str) -> String {
        let time = failure.window.from.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        let upstream = failure.upstream.as_ref().map_or("-".to_owned(), ToString::to_string);
        format!("{time:12}  {:21}  {words}", printable(&upstream))
    }

    fn json(&self, Pair { failure, outcome }: &Pair, verdict: Option<&VerdictView>) -> String {
        let (joined_by, others) = match outcome {
            Outcome::Joined { by, others, .. } => (Some(by.name()), *others),
            Outcome::LogAlone(_) | Outcome::NotJoined(_) => (None, 0),
        };
        let why = match outcome {
            Outcome::NotJoined(why) => Some(*why),
            Outcome::Joined { .. } | Outcome::LogAlone(_) => None,
        };
        line(&FailureLine {
            schema: SCHEMA,
            kind: "log_failure",
            proxy: self.proxy,
            line: failure.line,
            from: failure.window.from,
            until: failure.window.until,
            upstream: failure.upstream.as_ref().map(ToString::to_string),
            class: failure.class.name(),
            said: &failure.said,
            joined_by,
            others,
            meaning: failure.class.meaning(),
            not_joined: why.map(NotJoined::name),
            why: why.map(|why| why.to_string()),
            verdict,
        })
    }

    fn total_text(&self, tally: &Tally, advice: Option<&str>) -> String {
        let mut text = format!(
            "\n{} in {}: {} joined with a verdict, {} explained by the log alone, {} not joined\n",
            counted(tally.failures(), "upstream failure"),
            counted(tally.lines, "line"),
            tally.joined,
            tally.log_alone,
            tally.without_verdict(),
        );
        for (why, count) in &tally.not_joined {
            let begins = match (why, tally.memory_begins) {
                (NotJoined::BeforeMemory, Some(begins)) => {
                    format!(" ({})", begins.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S"))
                }
                (NotJoined::BeforeMemory, None) => " (it has kept no verdict)".to_owned(),
                _ => String::new(),
            };
            text.push_str(&format!("  not joined {count}: {why}{begins}\n"));
        }
        for (count, what) in
            [(tally.outside, "outside of --since and --until"), (tally.filtered, "left out by the filters")]
        {
            if count > 0 {
                text.push_str(&format!("  {} {what}\n", counted(count, "failure")));
            }
        }
        if tally.unknown > 0 {
            text.push_str(&format!("  {} of another kind passed over\n", counted(tally.unknown, "line")));
        }
        if tally.joined_by_time > 0 {
            text.push_str(&format!("  {} of the joined by their time alone\n", tally.joined_by_time));
        }
        // Unwrapped, to be copied.
        text.push_str(advice.unwrap_or_default());
        text.trim_end().to_owned()
    }
}

fn total_json(tally: &Tally, advice: Option<&'static str>) -> String {
    let why = |(why, count): (&NotJoined, &u64)| Why {
        not_joined: why.name(),
        why: why.to_string(),
        count: *count,
    };
    line(&TotalLine {
        schema: SCHEMA,
        kind: "log_total",
        lines: tally.lines,
        failures: tally.failures(),
        joined: tally.joined,
        joined_by_time: tally.joined_by_time,
        log_alone: tally.log_alone,
        not_joined: tally.without_verdict(),
        why: tally.not_joined.iter().map(why).collect(),
        outside: tally.outside,
        filtered: tally.filtered,
        other_lines: tally.other,
        unknown_lines: tally.unknown,
        memory_begins: tally.memory_begins,
        advice,
    })
}

fn line<T: Serialize>(value: &T) -> String {
    // No map in it has keys that are no strings, and no Serialize fails.
    printable_json(serde_json::to_string(value).unwrap_or_default())
}

fn wrapped(text: &str) -> String {
    let Some(columns) = stdout_columns() else { return text.to_owned() };
    let margin = " ".repeat(INDENT);
    textwrap::fill(text, textwrap::Options::new(columns.max(1)).subsequent_indent(&margin))
}

/// `1 line`, `2 lines`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
