//! The audit as the agent's socket gives it, and in words.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Origin;
use super::text::printable;
use super::view::{Kind, SCHEMA, json_line, nanoseconds, wall_time};
use crate::audit::{Gap, Line, Report, Why};
use crate::event::Counter;

/// Namespaces whose gaps are put into words.
const SHOWN: usize = 20;

/// What the kernel counted against what rstrace saw: the answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    pub schema: u32,
    pub kind: Kind,
    pub host: String,
    /// Sums over all namespaces that were ever compared.
    pub totals: Vec<Line>,
    pub namespaces: Vec<NamespaceView>,
    /// Namespaces that no thread is in.
    pub unread: usize,
}

/// One network namespace; counters that are 0 are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceView {
    pub netns: u32,
    pub scope: String,
    #[serde(with = "nanoseconds")]
    pub since: Timestamp,
    #[serde(with = "nanoseconds")]
    pub until: Timestamp,
    /// It is there no more, and there was a gap.
    pub has_ended: bool,
    pub counters: Vec<Line>,
}

// === impl AuditView ===

impl AuditView {
    #[must_use]
    pub fn new(report: Report, origin: &Origin, scope: impl Fn(u32) -> String) -> Self {
        let namespaces = report.namespaces.into_iter().map(|namespace| NamespaceView {
            netns: namespace.netns,
            scope: scope(namespace.netns),
            since: wall_time(namespace.since_ns, origin.clock_offset_ns),
            until: wall_time(namespace.until_ns, origin.clock_offset_ns),
            has_ended: namespace.has_ended,
            counters: namespace.lines.into_iter().filter(has_counted).collect(),
        });
        Self {
            schema: SCHEMA,
            kind: Kind::Audit,
            host: origin.host.clone(),
            totals: report.totals,
            namespaces: namespaces.collect(),
            unread: report.unread,
        }
    }

    /// The line, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        json_line(self)
    }

    /// A line for each counter, and one for each gap.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let compared = self.namespaces.iter().filter(|namespace| !namespace.has_ended).count();
        let _ = write!(
            text,
            "audit    what the kernel counted itself against what rstrace saw, in {}",
            plural(compared, "network namespace")
        );
        if self.unread > 0 {
            let _ = write!(text, "; {} without a process cannot be read", self.unread);
        }
        text.push('\n');
        for line in &self.totals {
            let seen = line.seen.map_or_else(|| "-".to_owned(), |seen| seen.to_string());
            let verdict = match (line.seen, line.gaps.is_empty()) {
                (None, _) => "the kernel's only: no event",
                (_, true) => "agreed",
                (_, false) if self.is_explained(line.counter) => "explained below",
                _ => "NOT EXPLAINED, see below",
            };
            let name = line.counter.name();
            let _ = writeln!(text, "{name:<22} kernel {:<10} rstrace {seen:<10} {verdict}", line.kernel);
        }
        self.describe_gaps(&mut text);
        text
    }

    /// The sums may hide what one namespace lacks and another has too much.
    fn is_explained(&self, counter: Counter) -> bool {
        let lines = self.namespaces.iter().flat_map(|namespace| &namespace.counters);
        lines.filter(|line| line.counter == counter).all(|line| line.gaps.iter().all(|gap| gap.why.is_some()))
    }

    fn describe_gaps(&self, text: &mut String) {
        let mut with_gaps: Vec<_> =
            self.namespaces.iter().filter(|n| n.counters.iter().any(|line| !line.gaps.is_empty())).collect();
        let is_explained =
            |n: &NamespaceView| n.counters.iter().flat_map(|line| &line.gaps).all(|gap| gap.why.is_some());
        with_gaps.sort_by_key(|namespace| is_explained(namespace));
        for namespace in with_gaps.iter().take(SHOWN) {
            let NamespaceView { netns, scope, since, .. } = namespace;
            let gone = if namespace.has_ended { ", which is there no more" } else { "" };
            let _ = writeln!(text, "  in {} (netns {netns}{gone}) since {since:.0}:", printable(scope));
            for line in &namespace.counters {
                for gap in &line.gaps {
                    let _ = writeln!(text, "    {}", sentence(line.counter, gap));
                }
            }
        }
        if with_gaps.len() > SHOWN {
            let _ = writeln!(text, "  and in {} more, see --json", with_gaps.len() - SHOWN);
        }
    }
}

fn has_counted(line: &Line) -> bool {
    line.kernel > 0 || line.seen.is_some_and(|seen| seen > 0)
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What the kernel did, and whether it is known why that was not seen.
fn sentence(counter: Counter, gap: &Gap) -> String {
    let why = gap.why.map_or("not explained: events were missed, and lines may be missing", explanation);
    let (count, deed) = (gap.count.unsigned_abs(), deed(counter));
    if gap.count < 0 {
        let why = gap.why.map_or("not explained", explanation);
        return format!("rstrace saw {count} {deed} that the kernel did not count: {why}");
    }
    format!("the kernel counted {count} {deed} that rstrace did not see: {why}")
}

fn deed(counter: Counter) -> &'static str {
    match counter {
        Counter::OutRsts => "RSTs sent",
        Counter::EstabResets => "connections torn down",
        Counter::AttemptFails => "failed connects or handshakes",
        Counter::TCPAbortOnData => "aborts over data for a closed socket, or by SO_LINGER 0",
        Counter::TCPAbortOnClose => "closes with unread data",
        Counter::TCPAbortOnTimeout => "connections that timed out",
        Counter::TCPAbortOnLinger => "aborts by TCP_LINGER2",
        Counter::TCPAbortOnMemory => "aborts for want of memory",
        Counter::TCPAbortFailed => "RSTs that could not be sent",
        Counter::EmbryonicRsts => "handshakes given up by the peer",
        Counter::ListenOverflows => "handshakes that found the accept queue full",
        Counter::ListenDrops => "dropped handshakes",
        Counter::TCPReqQFullDrop => "SYNs that found the queue of handshakes full",
    }
}

fn explanation(why: Why) -> &'static str {
    match why {
        Why::HandshakesGivenUp => {
            "peers gave up handshakes that this host had not completed (EmbryonicRsts); no connection was lost"
        }
        Why::NoMemory => "the kernel had no memory to send them (TCPAbortFailed)",
        Why::OrphansDropped => {
            "the kernel dropped closed sockets without a RST, since they were too many or memory was short"
        }
        Why::NoHook => "this kernel tells no program of a RST that no socket sends (Linux 6.10 does)",
        Why::NotSent => "the kernel found no route for them, so they were not sent",
        Why::Skipped => {
            "the kernel skipped a program that was running on that CPU already (events_lost, recursion)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Namespace;
    use crate::output::fixture;

    fn line(counter: Counter, kernel: u64, seen: u64, gaps: &[(i64, Option<Why>)]) -> Line {
        let gaps = gaps.iter().map(|&(count, why)| Gap { count, why }).collect();
        Line { counter, kernel, seen: Some(seen), gaps }
    }

    fn view(lines: Vec<Line>) -> AuditView {
        let namespace =
            Namespace { netns: 7, since_ns: 1, until_ns: 2, has_ended: false, lines: lines.clone() };
        let report = Report { totals: lines, namespaces: vec![namespace], unread: 2 };
        AuditView::new(report, &fixture::origin(), |_| "pod\u{1b}[2J".to_owned())
    }

    #[test]
    fn it_can_be_read_back() {
        let view = view(vec![line(Counter::OutRsts, 5, 4, &[(1, None)])]);
        assert_eq!(serde_json::from_str::<AuditView>(&view.to_json()).unwrap(), view);
        assert!(view.to_json().contains(r#""counter":"OutRsts","kernel":5,"seen":4"#), "{}", view.to_json());
    }

    #[test]
    fn a_gap_is_said_with_its_reason() {
        let text = view(vec![
            line(Counter::OutRsts, 5, 5, &[]),
            line(Counter::AttemptFails, 14, 2, &[(12, Some(Why::HandshakesGivenUp))]),
            line(Counter::EstabResets, 3, 2, &[(1, None)]),
        ])
        .words();
        for words in [
            "in 1 network namespace; 2 without a process cannot be read\n",
            "OutRsts                kernel 5          rstrace 5          agreed\n",
            "rstrace 2          explained below\n",
            "rstrace 2          NOT EXPLAINED, see below\n",
            "the kernel counted 12 failed connects or handshakes that rstrace did not see: peers gave up",
            "the kernel counted 1 connections torn down that rstrace did not see: not explained",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn counters_that_stand_still_are_left_out_of_a_namespace() {
        let view = view(vec![line(Counter::OutRsts, 0, 0, &[]), line(Counter::EstabResets, 1, 1, &[])]);
        assert_eq!(view.namespaces[0].counters.len(), 1);
        assert_eq!(view.totals.len(), 2);
    }
}
