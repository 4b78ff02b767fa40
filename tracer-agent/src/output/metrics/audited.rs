//! What the kernel counted itself, what was seen of it, and the gaps.

use std::collections::BTreeMap;

use tracer_ebpf::config::limit;
use tracer_ebpf::wire::tally;

use super::KernelSnapshot;
use super::collector::{number, table};
use super::definitions::Name;
use super::families::Families;
use crate::audit::{Gap, is_seen};
use crate::event::Counter;
use crate::table::Fill;

/// Not explained, and the kernel counted more.
const NONE: &str = "none";
/// Not explained, and more was seen.
const SURPLUS: &str = "surplus";

pub fn add(families: &mut Families, snapshot: &KernelSnapshot, scope: impl Fn(u32) -> String) {
    let audit = &snapshot.audit;
    for line in &audit.totals {
        families.add(Name::Netstat, &[line.counter.name(), "kernel"], number(line.kernel));
        if let Some(seen) = line.seen {
            families.add(Name::Netstat, &[line.counter.name(), "seen"], number(seen));
        }
    }
    let mut gaps: BTreeMap<(Counter, String, &str), i64> = BTreeMap::new();
    for namespace in &audit.namespaces {
        let scope = scope(namespace.netns);
        // Where something was counted, a scope without a gap says so too.
        for line in namespace.lines.iter().filter(|line| is_seen(line.counter) && line.kernel > 0) {
            gaps.entry((line.counter, scope.clone(), NONE)).or_default();
        }
        for (line, gap) in
            namespace.lines.iter().flat_map(|line| line.gaps.iter().map(move |gap| (line, gap)))
        {
            *gaps.entry((line.counter, scope.clone(), why(gap))).or_default() += gap.count;
        }
    }
    for ((counter, scope, why), count) in gaps {
        families.add(Name::NetstatGap, &[counter.name(), &scope, why], count as f64);
    }
    let overflow = snapshot.tally.get(tally::NAMESPACE_OVERFLOW as usize).copied().unwrap_or_default();
    let compared = audit.namespaces.iter().filter(|namespace| !namespace.has_ended).count();
    let (entries, capacity) = (compared, limit::NAMESPACES);
    table(families, Fill { table: "namespaces", entries, capacity, evicted: overflow });
}

fn why(gap: &Gap) -> &'static str {
    match gap.why {
        Some(why) => why.name(),
        None if gap.count < 0 => SURPLUS,
        None => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Line, Namespace, Report, Why};

    fn line(counter: Counter, kernel: u64, seen: Option<u64>, gaps: &[(i64, Option<Why>)]) -> Line {
        let gaps = gaps.iter().map(|&(count, why)| Gap { count, why }).collect();
        Line { counter, kernel, seen, gaps }
    }

    fn namespace(netns: u32, has_ended: bool, lines: Vec<Line>) -> Namespace {
        Namespace { netns, since_ns: 1, until_ns: 2, has_ended, lines }
    }

    /// The lines of a scrape about this metric, without its name.
    fn samples(report: Report, tally: Vec<u64>, name: Name) -> Vec<String> {
        let mut families = Families::default();
        let snapshot = KernelSnapshot { audit: report, tally, ..KernelSnapshot::default() };
        add(&mut families, &snapshot, |netns| if netns == 7 { "pod-a".into() } else { "host".into() });
        let text = families.into_text().expect("a scrape");
        let prefix = format!("{}{{", name.definition().name);
        text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    #[test]
    fn what_no_hook_sees_has_the_kernels_side_alone() {
        let totals =
            vec![line(Counter::OutRsts, 9, Some(8), &[]), line(Counter::ListenOverflows, 3, None, &[])];
        let report = Report { totals, ..Report::default() };
        assert_eq!(
            samples(report, vec![], Name::Netstat),
            [
                r#"counter="ListenOverflows",source="kernel"} 3"#,
                r#"counter="OutRsts",source="kernel"} 9"#,
                r#"counter="OutRsts",source="seen"} 8"#,
            ]
        );
    }

    #[test]
    fn gaps_are_summed_by_scope_and_reason_and_none_is_said_too() {
        let gaps = [(2, Some(Why::Skipped)), (1, None)];
        let namespaces = vec![
            namespace(1, false, vec![line(Counter::OutRsts, 9, Some(6), &gaps)]),
            namespace(2, true, vec![line(Counter::OutRsts, 5, Some(4), &[(1, None)])]),
            namespace(7, false, vec![line(Counter::OutRsts, 4, Some(4), &[])]),
            namespace(7, false, vec![line(Counter::EstabResets, 4, Some(6), &[(-2, None)])]),
            // Nothing was counted, or nothing could be seen: nothing to say.
            namespace(
                8,
                false,
                vec![line(Counter::AttemptFails, 0, Some(0), &[]), line(Counter::ListenDrops, 4, None, &[])],
            ),
        ];
        let report = Report { namespaces, ..Report::default() };
        assert_eq!(
            samples(report, vec![], Name::NetstatGap),
            [
                r#"counter="EstabResets",scope="pod-a",why="none"} 0"#,
                r#"counter="EstabResets",scope="pod-a",why="surplus"} -2"#,
                r#"counter="OutRsts",scope="host",why="none"} 2"#,
                r#"counter="OutRsts",scope="host",why="skipped"} 2"#,
                r#"counter="OutRsts",scope="pod-a",why="none"} 0"#,
            ]
        );
    }

    #[test]
    fn namespaces_that_are_compared_and_those_that_found_no_place_are_counted() {
        let namespaces = vec![namespace(1, false, vec![]), namespace(2, true, vec![])];
        let mut tally = vec![0; tally::NAMESPACE_OVERFLOW as usize + 1];
        tally[tally::NAMESPACE_OVERFLOW as usize] = 5;
        let report = Report { namespaces, ..Report::default() };
        assert_eq!(samples(report.clone(), tally.clone(), Name::TableEntries), [r#"table="namespaces"} 1"#]);
        assert_eq!(samples(report, tally, Name::TableEvicted), [r#"table="namespaces"} 5"#]);
    }
}
