//! The collector: turns one look at the kernel, and what the agent counted, into the families of a scrape.

use std::net::SocketAddr;

use prometheus::core::Collector as _;
use tracer_ebpf::config::limit;
use tracer_ebpf::wire::{UpstreamCounters, UpstreamKey, kind, tally};

use super::definitions::Name;
use super::families::Families;
use super::labels::OTHER;
use super::{Counted, KernelSnapshot, ProcessUse, State, audited, expiry};
use crate::event::unmapped;
use crate::table::{self, Fill};

/// Looks at the kernel and at what was counted.
pub fn collect(counted: &Counted) -> Families {
    let mut families = Families::default();
    families.take(Name::UpstreamAborts, counted.aborts.collect());
    families.take(Name::ListenerAborts, counted.listener_aborts.collect());
    families.take(Name::AbortRequestAge, counted.request_age.collect());
    families.take(Name::IdleCloseAge, counted.idle_close_age.collect());
    families.take(Name::ProcessExits, counted.exits.collect());
    families.take(Name::EventsReceived, counted.received.collect());
    families.take(Name::EventsDropped, counted.dropped.collect());
    families.add(Name::EventsLost, &["undecodable"], number(counted.undecodable.get()));
    families.add(Name::EventsLost, &["unjudged"], number(counted.unjudged.get()));
    families.add(Name::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);

    let state = counted.state();
    tables_and_hooks(&mut families, &state);
    let source = state.source.clone();
    // Reading the kernel takes its time, and locks of its own.
    drop(state);
    let mut snapshot = KernelSnapshot::default();
    if let Some(source) = source {
        // Nothing expires between the look at the kernel and the look at what has expired.
        let upstreams = counted.upstreams();
        snapshot = source.snapshot();
        for (scope, counters) in &upstreams.expired_others {
            families.upstreams.add(OTHER.to_owned(), scope.clone(), counters, None);
        }
        families.add(Name::UpstreamsExpired, &[], number(upstreams.expired));
        audited::add(&mut families, &snapshot, |netns| counted.labels.scope(&source.scope(netns)));
        for (key, counters) in &snapshot.upstreams {
            let answered = expiry::has_answered(counters);
            let (upstream, scope) = named(counted, key, answered, |netns| source.scope(netns));
            let limit = idle_limit_seconds(counters, snapshot.hz).filter(|_| upstream != OTHER);
            families.upstreams.add(upstream, scope, counters, limit);
        }
    }
    losses(&mut families, &snapshot);
    costs(&mut families, &snapshot);
    for (label, count) in counted.labels.overflow() {
        families.add(Name::LabelOverflow, &[label], number(count));
    }
    families
}

/// Labels of an upstream. The all-zero key counts those that found no place in the kernel's map.
fn named(
    counted: &Counted,
    key: &UpstreamKey,
    answered: bool,
    scope: impl Fn(u32) -> String,
) -> (String, String) {
    if *key == UpstreamKey::default() {
        return (OTHER.to_owned(), OTHER.to_owned());
    }
    (counted.labels.upstream(&address(key), answered), counted.labels.scope(&scope(key.netns)))
}

/// The label of an upstream that has a place.
pub(super) fn address(key: &UpstreamKey) -> String {
    let port = u16::try_from(key.port).unwrap_or_default();
    SocketAddr::new(unmapped(key.address), port).to_string()
}

/// The idle age at which it closes kept connections, if that repeats.
fn idle_limit_seconds(counters: &UpstreamCounters, hz: u32) -> Option<f64> {
    let seen = counters.ages.idle.iter().filter(|age| **age > 0);
    let ages_ms: Vec<_> = seen.map(|age| f64::from(*age) * 1000.0 / f64::from(hz.max(1))).collect();
    table::idle_limit(&ages_ms).map(|ms| ms / 1000.0)
}

fn losses(families: &mut Families, snapshot: &KernelSnapshot) {
    let tally = |index: u32| snapshot.tally.get(index as usize).copied().unwrap_or_default();
    let ring: u64 = (0..kind::COUNT).map(|kind| tally(tally::LOST + kind)).sum();
    families.add(Name::EventsLost, &["ring"], number(ring));
    families.add(Name::EventsLost, &["recursion"], number(snapshot.recursion_misses));
    families.add(Name::EventsLost, &["socket_storage"], number(tally(tally::STORAGE_FAILED)));
    if let Some(failures) = snapshot.names_failures {
        families.add(Name::NamesFailures, &["kubernetes"], number(failures));
    }
    let named = snapshot.upstreams.iter().filter(|(key, _)| *key != UpstreamKey::default()).count();
    let evicted = tally(tally::UPSTREAM_OVERFLOW);
    table(families, Fill { table: "upstreams", entries: named, capacity: limit::UPSTREAMS, evicted });
    // How many of them are taken is known to nobody without looking at each.
    families.add(Name::TableCapacity, &["slots"], number(limit::SLOTS as u64));
    families.add(Name::TableEvicted, &["slots"], number(tally(tally::SLOT_TAKEN)));
}

fn tables_and_hooks(families: &mut Families, state: &State) {
    for fill in state.tables.values() {
        table(families, *fill);
    }
    for hook in &state.hooks {
        let how = hook.how.as_deref().unwrap_or("none");
        families.add(Name::HookAttached, &[&hook.hook, how], f64::from(u8::from(hook.attached)));
    }
}

fn costs(families: &mut Families, snapshot: &KernelSnapshot) {
    for program in &snapshot.programs {
        families.add(Name::ProgramRuns, &[&program.name], number(program.runs));
        families.add(Name::ProgramSeconds, &[&program.name], program.seconds);
    }
    if let Some(process) = snapshot.process {
        let ProcessUse { resident_bytes, cpu_seconds, open_fds, start_time_seconds } = process;
        families.add(Name::ProcessResident, &[], number(resident_bytes));
        families.add(Name::ProcessCpu, &[], cpu_seconds);
        families.add(Name::ProcessFds, &[], number(open_fds));
        families.add(Name::ProcessStart, &[], start_time_seconds);
    }
}

/// How full a table is, of the agent or of the kernel.
pub(super) fn table(families: &mut Families, fill: Fill) {
    families.add(Name::TableEntries, &[fill.table], number(fill.entries as u64));
    families.add(Name::TableCapacity, &[fill.table], number(fill.capacity as u64));
    families.add(Name::TableEvicted, &[fill.table], number(fill.evicted));
}

/// The text format knows floating-point numbers only; they are exact up to 2^53.
pub(super) fn number(count: u64) -> f64 {
    count as f64
}
