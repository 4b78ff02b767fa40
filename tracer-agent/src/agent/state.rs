//! What the agent has learned, told to whoever asks: from the tables of the core and the kernel's own counts.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Host;
use super::core::Core;
use crate::event::unmapped;
use crate::kernel::clock;
use crate::output::metrics::Source as _;
use crate::output::state::{
    ListenerProcess, ListenerState, MAX_UPSTREAMS, StateView, TimeoutView, UpstreamState, WaitedFor,
};
use crate::output::view::{ExitView, ProcessView, wall_time};
use crate::output::{Names, Origin};
use crate::table::{Learned, Listening, Repetition, Wait, idle_limit};

/// What the kernel keeps of the ages of an upstream, milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Ages {
    idle_limit: Option<f64>,
    slowest_answer: f64,
}

/// Of all upstreams that were dialled and of which something is known.
pub fn state(core: &Core, host: &std::sync::Arc<Host>, since_ns: u64) -> StateView {
    let tick_ms = 1000.0 / f64::from(host.hz().max(1));
    let mut dialled = HashMap::<(SocketAddr, u32), Ages>::new();
    for (key, counters) in host.upstreams().iter().filter(|(key, _)| key.port != 0) {
        let port = u16::try_from(key.port).unwrap_or_default();
        let seen: Vec<_> =
            counters.ages.idle.iter().filter(|age| **age > 0).map(|age| f64::from(*age) * tick_ms).collect();
        let ages = Ages {
            idle_limit: idle_limit(&seen),
            slowest_answer: f64::from(counters.ages.slowest.max(counters.ages.slowest_before)) * tick_ms,
        };
        dialled.insert((SocketAddr::new(unmapped(key.address), port), key.netns), ages);
    }
    let origin = core.origin();
    let names: &dyn Names = &**host;
    let mut upstreams: Vec<_> = core
        .learned(dialled.keys().copied())
        .into_iter()
        .filter_map(|learned| {
            let ages = dialled.get(&(learned.upstream, learned.netns)).copied().unwrap_or_default();
            upstream(&learned, ages, names, origin)
        })
        .collect();
    upstreams.sort_by(|a, b| (&a.upstream, &a.scope).cmp(&(&b.upstream, &b.scope)));
    let omitted = upstreams.len().saturating_sub(MAX_UPSTREAMS) as u64;
    upstreams.truncate(MAX_UPSTREAMS);
    let wall = |ns| wall_time(ns, origin.clock_offset_ns);
    let state = StateView::new(host.name(), wall(clock::monotonic_ns()), wall(since_ns));
    StateView { upstreams, omitted, ..state }
}

/// None if nothing is known.
fn upstream(learned: &Learned, ages: Ages, names: &dyn Names, origin: &Origin) -> Option<UpstreamState> {
    // As the rules have it: an upstream that answers later than it gives up has no such timeout.
    let own = |r: &&Repetition| r.wait == Wait::Upstream && ages.slowest_answer < r.youngest_ms;
    let state = UpstreamState {
        upstream: learned.upstream.to_string(),
        scope: names.scope(learned.netns),
        upstream_timeout: learned.timeouts.iter().find(own).map(timeout),
        gateway_timeouts: learned.timeouts.iter().filter(|r| r.wait != Wait::Upstream).map(timeout).collect(),
        idle_limit_ms: ages.idle_limit,
        listener: learned.listener.as_ref().map(|listening| listener(listening, origin)),
    };
    let known = state.upstream_timeout.is_some()
        || !state.gateway_timeouts.is_empty()
        || state.idle_limit_ms.is_some()
        || state.listener.is_some();
    known.then_some(state)
}

fn timeout(repetition: &Repetition) -> TimeoutView {
    TimeoutView {
        waited_for: match repetition.wait {
            Wait::Upstream | Wait::GatewayReading => WaitedFor::Answer,
            Wait::GatewaySending => WaitedFor::Sending,
            Wait::GatewayConnecting => WaitedFor::Connect,
        },
        age_ms: (repetition.middle_ms * 1000.0).round() / 1000.0,
        times: repetition.alike as u64,
        of: repetition.of as u64,
    }
}

fn listener(listening: &Listening, origin: &Origin) -> ListenerState {
    ListenerState {
        listening: listening.ceased_ns.is_none(),
        ceased: listening.ceased_ns.map(|ns| wall_time(ns, origin.clock_offset_ns)),
        process: listening.process.as_ref().map(|process| {
            let started = origin.start_of(process);
            let ProcessView { pid, comm } = ProcessView::new(process);
            ListenerProcess { pid, comm, started, exit: listening.exit.map(ExitView::new) }
        }),
    }
}
