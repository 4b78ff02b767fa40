//! What the outputs ask of the host: names of cgroups, of reset reasons, of scopes; and the kernel's counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tracer_ebpf::wire::{AlikeKey, UpstreamCounters, UpstreamKey};

use super::auditing::{Age, Auditing};
use crate::audit::Report;
use crate::enrich::Sources;
use crate::enrich::container::Container;
use crate::enrich::endpoint::Endpoint;
use crate::enrich::gateways::{Gateways, Known, Registration};
use crate::enrich::pods::{Pod, Pods};
use crate::event::{Process, QueueDrops, Target};
use crate::kernel::cgroup::Cgroups;
#[cfg(feature = "kubernetes")]
use crate::kernel::conntrack::Conntrack;
use crate::kernel::{CountersError, Kernel, netns, own_use};
use crate::output::metrics::{KernelSnapshot, ProcessUse, ProgramUse, Source};
use crate::output::view::{HookView, Names};
use crate::table::Fill;

/// Scopes remembered; a host has some hundreds of network namespaces.
const SCOPES: usize = 4096;
/// The scope of what runs in no container.
const HOST_SCOPE: &str = "host";

/// Answers for this host.
pub struct Host {
    name: String,
    own_netns: u32,
    hz: u32,
    reset_reasons: BTreeMap<u32, String>,
    hooks: Vec<HookView>,
    groups: Vec<String>,
    kernel: Arc<Mutex<Kernel>>,
    auditing: Auditing,
    seen: Mutex<Seen>,
    sources: Sources,
    /// None: no Services are known, or it may not be asked.
    #[cfg(feature = "kubernetes")]
    conntrack: Option<Conntrack>,
    /// None if its thread could not be started, which was said.
    gateways: Option<Gateways>,
}

struct Seen {
    cgroups: Cgroups,
    pods: Pods,
    /// Container or pod whose network a namespace is, learned from the processes in it.
    scopes: BTreeMap<u32, String>,
    /// Processes whose namespace found no place there.
    scopes_left_out: u64,
}

impl Host {
    #[must_use]
    pub fn new(kernel: Arc<Mutex<Kernel>>, mut sources: Sources) -> Self {
        sources.begin();
        let (hz, reset_reasons, hooks, groups) = {
            let kernel = super::lock(&kernel);
            let groups = kernel.groups.iter().map(|group| group.name().to_owned()).collect();
            (kernel.hz, kernel.layout.reset_reasons.clone(), super::hook_views(&kernel.hooks), groups)
        };
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            name,
            own_netns: netns::own(),
            hz,
            reset_reasons,
            hooks,
            groups,
            auditing: Auditing::new(Arc::clone(&kernel)),
            kernel,
            seen: Mutex::new(Seen::new(&sources)),
            #[cfg(feature = "kubernetes")]
            conntrack: if sources.names_services() { conntrack() } else { None },
            sources,
            gateways: Gateways::start()
                .inspect_err(|error| tracing::error!("upstreams have no names: no thread for them: {error}"))
                .ok(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Jiffies in a second.
    #[must_use]
    pub fn hz(&self) -> u32 {
        self.hz
    }

    #[must_use]
    pub fn hooks(&self) -> Vec<HookView> {
        self.hooks.clone()
    }

    /// The optional groups of hooks that are on.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.groups.clone()
    }

    /// Names of the running kernel's `enum sk_rst_reason`, by number.
    #[must_use]
    pub fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// What the kernel counted against what was seen, as of a look that is not older than this.
    #[must_use]
    pub fn audit(&self, age: Age) -> Report {
        self.auditing.look(age);
        self.auditing.report()
    }

    /// Looks at the kernel's own counters, if the last look is older than it may be.
    pub fn look_at_namespaces(&self, age: Age) {
        self.auditing.look(age);
    }

    /// Handshakes that full queues dropped since the last call, as far as the looks have told.
    #[must_use]
    pub fn take_drops(&self) -> Vec<QueueDrops> {
        self.auditing.take_drops()
    }

    /// How many namespaces' scopes are known.
    #[must_use]
    pub fn scopes_fill(&self) -> Fill {
        self.seen().scopes_fill()
    }

    /// How many containers' pods are known.
    #[must_use]
    pub fn pods_fill(&self) -> Fill {
        self.seen().pods.fill()
    }

    /// How many names an API server has given, if one is asked.
    #[must_use]
    pub fn endpoints_fill(&self) -> Option<Fill> {
        self.sources.fill()
    }

    /// Remembers the cgroup of a process that serves, while it lives: when it dies, it and its cgroup are gone.
    pub fn meet(&self, process: &Process) {
        let _ = Names::cgroup(self, process);
    }

    /// Ends of connections that the kernel could not queue so far.
    #[must_use]
    pub fn lost_ends(&self) -> u64 {
        or_none(super::lock(&self.kernel).lost_ends()).unwrap_or_default()
    }

    /// What the gateways of this host are configured to do.
    #[must_use]
    pub fn configured(&self) -> Option<Arc<Known>> {
        self.gateways.as_ref().map(Gateways::known)
    }

    /// Where what was dialled led to.
    fn behind(&self, target: &Target, local: SocketAddr) -> Option<SocketAddr> {
        let Target::Tcp(dialled) = target else { return None };
        #[cfg(feature = "kubernetes")]
        return self.conntrack.as_ref()?.behind(local, *dialled);
        #[cfg(not(feature = "kubernetes"))]
        {
            let _ = (dialled, local);
            None
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn new(sources: &Sources) -> Self {
        let pods = Pods::new(&sources.pod_logs);
        Self { cgroups: Cgroups::default(), pods, scopes: BTreeMap::new(), scopes_left_out: 0 }
    }

    fn learn_scope(&mut self, netns: u32, scope: &str) {
        if self.scopes.len() < SCOPES || self.scopes.contains_key(&netns) {
            self.scopes.insert(netns, scope.to_owned());
        } else {
            self.scopes_left_out += 1;
        }
    }

    fn scopes_fill(&self) -> Fill {
        let evicted = self.scopes_left_out;
        Fill { table: "scopes", entries: self.scopes.len(), capacity: SCOPES, evicted }
    }
}

/// Why there is none is said.
#[cfg(feature = "kubernetes")]
fn conntrack() -> Option<Conntrack> {
    Conntrack::open()
        .inspect_err(|error| tracing::warn!("the pods behind addresses of Services are not known: {error}"))
        .ok()
}

/// A map that cannot be read is said, and ends nothing.
fn or_none<T>(read: Result<T, CountersError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!("{error}")).ok()
}

impl Names for Host {
    fn cgroup(&self, process: &Process) -> Option<String> {
        let mut seen = self.seen();
        let path = seen.cgroups.of(process)?;
        if process.netns != 0
            && process.netns != self.own_netns
            && let Some(container) = Container::from_cgroup(&path)
        {
            // All containers of a pod share its network.
            let pod = seen.pods.of(&container).and_then(|pod| pod.full_name());
            seen.learn_scope(process.netns, pod.as_deref().unwrap_or(container.short_id()));
        }
        Some(path)
    }

    fn pod(&self, container: &Container) -> Option<Pod> {
        let mut pod = self.seen().pods.of(container)?;
        self.sources.complete(&mut pod, &container.id);
        Some(pod)
    }

    fn endpoint(&self, target: &Target, local: Option<SocketAddr>) -> Option<Endpoint> {
        let endpoint = self.sources.endpoint(target)?;
        // That of a pod leads nowhere else.
        if endpoint.pod.is_some() {
            return Some(endpoint);
        }
        let Some(address) = self.behind(target, local?) else { return Some(endpoint) };
        let pod = self.sources.endpoint(&Target::Tcp(address)).and_then(|endpoint| endpoint.pod);
        Some(Endpoint { pod, address: Some(address), ..endpoint })
    }

    fn reset_reason(&self, number: u32) -> Option<String> {
        self.reset_reasons.get(&number).cloned()
    }

    fn scope(&self, netns: u32) -> String {
        self.seen().scopes.get(&netns).cloned().unwrap_or_else(|| HOST_SCOPE.to_owned())
    }

    fn registration(&self, target: &Target, netns: u32, owner: Option<&Process>) -> Option<Registration> {
        self.gateways.as_ref()?.find(target, netns, owner)
    }
}

impl Source for Arc<Host> {
    fn snapshot(&self) -> KernelSnapshot {
        let counters = match super::lock(&self.kernel).counters() {
            Ok(counters) => counters,
            Err(error) => {
                tracing::error!("{error}");
                return KernelSnapshot::default();
            }
        };
        let run = counters.programs.iter().filter(|p| p.runs > 0);
        KernelSnapshot {
            upstreams: counters.upstreams,
            tally: counters.tally,
            hz: self.hz,
            audit: self.audit(Age::Second),
            recursion_misses: counters.programs.iter().map(|p| p.recursion_misses).sum(),
            programs: run
                .map(|p| ProgramUse {
                    name: p.name.to_owned(),
                    runs: p.runs,
                    seconds: p.nanoseconds as f64 / 1e9,
                })
                .collect(),
            names_failures: self.sources.failures(),
            process: own_use::read().map(|used| ProcessUse {
                resident_bytes: used.resident_bytes,
                cpu_seconds: used.cpu_seconds,
                open_fds: used.open_fds,
                start_time_seconds: used.start_time_seconds,
            }),
        }
    }

    fn scope(&self, netns: u32) -> String {
        Names::scope(&**self, netns)
    }

    fn upstreams_in_use(&self) -> u64 {
        or_none(super::lock(&self.kernel).upstreams_in_use()).unwrap_or_default()
    }

    fn upstreams(&self) -> Vec<(UpstreamKey, UpstreamCounters)> {
        or_none(super::lock(&self.kernel).upstreams()).unwrap_or_default()
    }

    fn alike(&self) -> Vec<(AlikeKey, u64)> {
        or_none(super::lock(&self.kernel).alike()).unwrap_or_default()
    }

    fn forget_alike(&self, key: &AlikeKey) -> Option<u64> {
        or_none(super::lock(&self.kernel).forget_alike(key))
    }

    fn expire(&self, upstream: &UpstreamKey) -> Option<UpstreamCounters> {
        or_none(super::lock(&self.kernel).expire_upstream(upstream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_bounded_and_what_finds_no_place_is_counted() {
        let mut seen = Seen::new(&Sources::default());
        for netns in 0..SCOPES as u32 + 3 {
            seen.learn_scope(netns, "a");
        }
        // One that is known moves without taking a place.
        seen.learn_scope(1, "b");
        let fill = Fill { table: "scopes", entries: SCOPES, capacity: SCOPES, evicted: 3 };
        assert_eq!((seen.scopes_fill(), seen.scopes[&1].as_str()), (fill, "b"));
    }
}
