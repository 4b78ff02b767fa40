//! What the kernel counted itself, what was seen of it, and the gaps.

use std::collections::BTreeMap;

use tracer_ebpf::config::limit;
use tracer_ebpf::wire::tally;

use super::KernelSnapshot;
use super::definitions::Name;
use super::families::Families;
use crate::audit::{Gap, is_seen};
use crate::event::Counter;

/// Not explained, and the kernel counted more.
const NONE: &str = "none";
/// Not explained, and more was seen.
const SURPLUS: &str = "surplus";

pub fn add(families: &mut Families, snapshot: &KernelSnapshot, scope: impl Fn(u32) -> String) {
    let audit = &snapshot.audit;
    for line in &audit.totals {
        families.add(Name::KernelCounter, &[line.counter.name(), "kernel"], line.kernel as f64);
        if let Some(seen) = line.seen {
            families.add(Name::KernelCounter, &[line.counter.name(), "seen"], seen as f64);
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
        families.add(Name::KernelCounterGap, &[counter.name(), &scope, why], count as f64);
    }
    let overflow = snapshot.tally.get(tally::NAMESPACE_OVERFLOW as usize).copied().unwrap_or_default();
    let compared = audit.namespaces.iter().filter(|namespace| !namespace.has_ended).count();
    families.add(Name::TableEntries, &["namespaces"], compared as f64);
    families.add(Name::TableCapacity, &["namespaces"], limit::NAMESPACES as f64);
    families.add(Name::TableEvicted, &["namespaces"], overflow as f64);
}

fn why(gap: &Gap) -> &'static str {
    match gap.why {
        Some(why) => why.name(),
        None if gap.count < 0 => SURPLUS,
        None => NONE,
    }
}
