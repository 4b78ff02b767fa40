//! What the agent does once a second: it gives a sign of life, lets what has expired go, and says how full everything is.

use std::sync::Arc;

use super::auditing::Age;
use super::{Agent, Input};
use crate::enrich::gateways::SERVERS;
use crate::kernel::{clock, memory};
use crate::output::hub::Why;
use crate::table::Fill;

/// Between two looks at the kernel's own counters, if nobody scrapes.
const AUDIT_TICKS: u64 = 10;
/// Between two looks for upstreams that are idle, and for memory that is free.
const SWEEP_TICKS: u64 = 20;

impl Agent {
    pub(super) fn housekeeping(&mut self) {
        self.health.tick();
        self.tell_lost();
        let alike = self.metrics.count_alike(clock::monotonic_ns());
        if alike > 0 {
            self.hub.miss(alike, Why::Alike);
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(SWEEP_TICKS) {
            self.metrics.sweep(clock::monotonic_ns());
            memory::give_back();
        }
        if self.ticks.is_multiple_of(AUDIT_TICKS) {
            self.host.look_at_namespaces(Age::Second);
        }
        for drops in self.host.take_drops() {
            self.input(Input::Drops(drops));
        }
        self.input(Input::Tick { now_ns: clock::monotonic_ns(), clock_offset_ns: clock::wall_offset_ns() });
        for fill in self.core.fills() {
            self.metrics.set_table(fill);
        }
        self.metrics.set_table(self.host.scopes_fill());
        self.metrics.set_table(self.host.pods_fill());
        if let Some(fill) = self.host.endpoints_fill() {
            self.metrics.set_table(fill);
        }
        let extent = self.hub.extent();
        self.metrics.set_table(Fill {
            table: "history",
            entries: extent.kept,
            capacity: extent.capacity,
            evicted: extent.forgotten,
        });
        self.keep_up_with_gateways();
    }

    /// What gateways are configured to dial has its places among the labels.
    fn keep_up_with_gateways(&mut self) {
        let Some(known) = self.host.configured() else { return };
        let (entries, evicted) = (known.len(), known.left_out);
        self.metrics.set_table(Fill { table: "configured_servers", entries, capacity: SERVERS, evicted });
        if self.configured.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &known)) {
            self.metrics.reserve(known.upstreams());
            self.configured = Some(known);
        }
    }

    /// Tells the readers of the stream what the kernel could not queue since the last time.
    fn tell_lost(&mut self) {
        let lost = self.host.lost_ends();
        if lost > self.lost_told {
            self.hub.miss(lost - self.lost_told, Why::RingFull);
            self.lost_told = lost;
        }
    }
}
