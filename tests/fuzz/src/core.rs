//! Events in any order and of any content, through the tables and the rules to the line.

use std::net::SocketAddr;

use tracer_agent::agent::{Core, Input};
use tracer_agent::enrich::container::Container;
use tracer_agent::enrich::endpoint::Endpoint;
use tracer_agent::enrich::gateways::Registration;
use tracer_agent::enrich::pods::Pod;
use tracer_agent::event::{Process, Target};
use tracer_agent::output::{Line, Names, Origin, VerdictView};
use tracer_agent::table::Settings;
use tracer_ebpf::wire::kind;

use crate::records;

/// What an operation moves the clock on by, at most: the longest that anything is remembered for is some minutes.
const LONGEST_NS: u64 = 1 << 40;

/// The first byte of each operation says what happens, the next two when; the rest is the event.
pub fn run(mut input: &[u8]) {
    let settings = Settings { hz: 250, vantage: false, suspended_ns: 0 };
    let origin = Origin::new("fuzz", 0, 0);
    let mut core = Core::new(settings, origin);
    let mut now_ns = 1 << 40;
    while let Some((&[operation, low, high], rest)) = input.split_first_chunk() {
        input = rest;
        let step: u16 = u16::from_le_bytes([low, high]);
        // Most steps are short, some are long: the square of a small number.
        now_ns = (now_ns + (u64::from(step) * u64::from(step)) * 256 % LONGEST_NS).max(1);
        let next = match u32::from(operation) % (kind::COUNT + 2) {
            0 => Some(Input::Settle { now_ns }),
            1 => Some(Input::Tick { now_ns, clock_offset_ns: i64::from(step) }),
            number => {
                // An early event may come late: one CPU's record is behind another's.
                let late = if operation > 200 { 0 } else { now_ns };
                records::event(number as u16 - 1, late, &mut input).map(Input::Event)
            }
        };
        let Some(next) = next else { continue };
        if let Some(verdict) = core.take(next) {
            let line = VerdictView::new(&verdict, &Nameless, core.origin()).to_json();
            assert!(Line::parse(&line).is_ok(), "not to be read back: {line}");
        }
        let _ = core.take_questions();
    }
    for fill in core.fills() {
        assert!(fill.entries <= fill.capacity, "{} has {} entries", fill.table, fill.entries);
    }
}

/// A host that knows no names.
struct Nameless;

impl Names for Nameless {
    fn cgroup(&self, _: &Process) -> Option<String> {
        None
    }

    fn reset_reason(&self, _: u32) -> Option<String> {
        None
    }

    fn scope(&self, _: u32) -> String {
        "host".to_owned()
    }

    fn registration(&self, _: &Target, _: u32, _: Option<&Process>) -> Option<Registration> {
        None
    }

    fn pod(&self, _: &Container) -> Option<Pod> {
        None
    }

    fn endpoint(&self, _: &Target, _: Option<SocketAddr>) -> Option<Endpoint> {
        None
    }
}
