//! The agent at work: one loop that takes events from the ring, keeps the tables, judges, and delivers.
//!
//! It joins the rooms and has no opinions: loading is `kernel`'s, remembering `table`'s, judging `verdict`'s,
//! spelling `output`'s.

mod asking;
mod auditing;
mod core;
mod host;
mod housekeeping;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asking::Asking;
use auditing::Age;
use tokio::time::{Instant, MissedTickBehavior};

use crate::enrich::Sources;
use crate::enrich::gateways::Known;
use crate::event::{DecodeError, Event, Process, TcpState};
use crate::kernel::{self, Kernel, LoadError, Options, ProgramLog, Ring, RingError, clock};
use crate::output::audit::AuditView;
use crate::output::http::Health;
use crate::output::hub::Hub;
use crate::output::journal::Journal;
use crate::output::metrics::Metrics;
use crate::output::state::{Asked, Asker};
use crate::output::view::HookView;
use crate::output::{Names, Origin, Ready, Sink, VerdictView};
use crate::recording::{self, Header, NotedNames, Recorder};

pub use self::core::{Core, Input};
pub use host::Host;

/// Between two looks at what has expired, and two signs of life.
const TICK: Duration = Duration::from_secs(1);
/// Verdicts made at once before others get their turn: when many are due together, the readers' queues have to be
/// emptied meanwhile.
const BATCH: usize = 256;

/// The loaded programs and all that works with them.
pub struct Agent {
    ring: Ring,
    core: Core,
    asking: Asking,
    host: Arc<Host>,
    metrics: Arc<Metrics>,
    hub: Hub,
    health: Arc<Health>,
    program_log: Option<ProgramLog>,
    header: Header,
    recorder: Option<Recorder>,
    journal: Option<Journal>,
    asked: Asked,
    asker: Asker,
    ticks: u64,
    /// Ends that the kernel could not queue, as far as the readers know.
    lost_told: u64,
    /// What gateways were configured to do when it was last looked at.
    configured: Option<Arc<Known>>,
}

impl Agent {
    /// Loads the programs and reads what exists. From its return on, everything is seen.
    ///
    /// # Errors
    /// If the host does not support or permit it, or a required hook cannot be attached.
    pub fn start(options: &Options, sources: Sources) -> Result<Self, LoadError> {
        Self::begin(options, sources, None)
    }

    /// The same, and everything that it sees is recorded.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_recorded(
        options: &Options,
        sources: Sources,
        recorder: Recorder,
    ) -> Result<Self, LoadError> {
        Self::begin(options, sources, Some(recorder))
    }

    fn begin(options: &Options, sources: Sources, mut recorder: Option<Recorder>) -> Result<Self, LoadError> {
        let (mut kernel, ring, found) = Kernel::load(options)?;
        kernel.give_up_the_rest(sources.names_services())?;
        let program_log = kernel.take_program_log();
        let (hz, vantage) = (kernel.hz, kernel.vantage());
        let kernel = Arc::new(Mutex::new(kernel));
        let host = Arc::new(Host::new(Arc::clone(&kernel), sources));
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::default();
        connect(&kernel, &host, &metrics, &hub);
        let (asker, asked) = Asker::new();
        let health = Arc::new(Health::default());
        health.set_ready();
        let header = header(&host, hz, vantage);
        let mut core = Core::new(header.settings(), header.origin());
        let existing = found.wanted.into_iter().map(|socket| Input::Event(Event::Existing(socket)));
        let existing: Vec<Input> = existing.collect();
        if let Some(recorder) = &mut recorder {
            recorder.begin(&header, &existing);
        }
        for input in existing {
            if let Input::Event(event) = &input {
                meet(&host, event);
            }
            core.take(input);
        }
        Ok(Self {
            ring,
            core,
            asking: Asking::new(kernel, Arc::clone(&host)),
            host,
            metrics,
            hub,
            health,
            program_log,
            header,
            recorder,
            journal: None,
            asked,
            asker,
            ticks: 0,
            lost_told: 0,
            configured: None,
        })
    }

    #[must_use]
    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// From now on, what is news is written there too.
    pub fn keep_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// The first line of a stream that begins with the agent.
    #[must_use]
    pub fn started(&self) -> Ready {
        self.header.ready()
    }

    /// Makes the first line of a stream, whenever one begins.
    pub fn ready(&self) -> impl Fn() -> Ready + Clone + Send + Sync + 'static {
        let host = Arc::clone(&self.host);
        move || {
            let origin = origin(&host);
            Ready::new(clock::monotonic_ns(), &origin, host.hooks(), host.groups())
        }
    }

    /// Says what the kernel counted itself against what was seen, whenever somebody asks.
    pub fn audit(&self) -> impl Fn() -> AuditView + Clone + Send + Sync + 'static {
        let host = Arc::clone(&self.host);
        move || {
            let origin = origin(&host);
            AuditView::new(host.audit(Age::Now), &origin, |netns| Names::scope(&*host, netns))
        }
    }

    /// Asks for what was learned; the loop answers.
    #[must_use]
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Works until it is dropped.
    ///
    /// # Errors
    /// If the ring buffer can no longer be waited for.
    pub async fn run(mut self) -> Result<(), RingError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut records = Vec::new();
        loop {
            let due = self.due();
            let behind = tokio::select! {
                read = self.ring.read(|record| records.push(record)) => read?,
                () = tokio::time::sleep_until(due) => false,
                read = programs_speak(&mut self.program_log) => {
                    read?;
                    false
                }
                answer = self.asked.next() => {
                    answer.give(state::state(&self.core, &self.host, self.header.ktime_ns));
                    false
                }
                _ = tick.tick() => {
                    self.housekeeping();
                    false
                }
            };
            let (behind, known_ns) = self.take_all(behind, &mut records);
            for answer in self.asking.ask(&mut self.core) {
                self.input(answer);
            }
            if self.settle(known_ns) || behind {
                // There is always more during a flood; the readers of the stream need their turns too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes what was read, and what else is there: a turn that began with the clock, or came late, must not judge
    /// without it. Returns whether there is more than a batch, and until when all is known.
    fn take_all(&mut self, behind: bool, records: &mut Vec<Result<Event, DecodeError>>) -> (bool, u64) {
        let now_ns = clock::monotonic_ns();
        let behind = behind || self.ring.read_on(|record| records.push(record));
        let last_ns = records.iter().rev().find_map(|record| Some(record.as_ref().ok()?.ktime_ns()));
        for record in records.drain(..) {
            self.take(record);
        }
        (behind, last_ns.filter(|_| behind).unwrap_or(now_ns))
    }

    fn take(&mut self, record: Result<Event, DecodeError>) {
        let event = match record {
            Ok(event) => event,
            Err(error) => {
                self.metrics.undecodable();
                tracing::warn!("a record of the ring buffer was refused: {error}");
                return;
            }
        };
        self.metrics.received(&event);
        meet(&self.host, &event);
        if let Event::ProcessExit(exit) = &event {
            self.metrics.exited(&exit.process);
        }
        self.input(Input::Event(event));
    }

    /// Judges a batch of what has waited long enough at `now_ns`; returns whether there may be more.
    fn settle(&mut self, now_ns: u64) -> bool {
        for _ in 0..BATCH {
            if self.core.next_due().is_none_or(|due| due > now_ns) {
                return false;
            }
            self.input(Input::Settle { now_ns });
        }
        true
    }

    fn input(&mut self, input: Input) {
        if self.recorder.is_none() {
            self.judge(input, &*Arc::clone(&self.host));
            return;
        }
        // Spelled before the core takes it, written after the names that its verdict asks for.
        let line = recording::input_line(&input);
        let host = Arc::clone(&self.host);
        let names = NotedNames::new(&*host);
        self.judge(input, &names);
        if let Some(recorder) = &mut self.recorder {
            recorder.input(line, names.answers());
        }
    }

    fn judge(&mut self, input: Input, names: &dyn Names) {
        let Some(verdict) = self.core.take(input) else { return };
        let view = Arc::new(VerdictView::new(&verdict, names, self.core.origin()));
        self.metrics.deliver(&verdict, &view);
        self.hub.deliver(&verdict, &view);
        if let Some(journal) = &mut self.journal {
            journal.deliver(&verdict, &view);
        }
    }

    /// When the next ended connection has waited long enough.
    fn due(&self) -> Instant {
        let now = clock::monotonic_ns();
        let wait = self.core.next_due().map_or(TICK, |due| Duration::from_nanos(due.saturating_sub(now)));
        let due = Instant::now() + wait;
        self.asking.due(&self.core).map_or(due, |asked| asked.min(due))
    }
}

/// Whoever serves is asked for its cgroup at once: after its end it could not be.
fn meet(host: &Host, event: &Event) {
    let process: Option<&Process> = match event {
        Event::Listener(change) if change.listening => change.actor.as_ref(),
        Event::Existing(socket) if socket.state == TcpState::Listen => Some(&socket.process),
        _ => None,
    };
    if let Some(process) = process {
        host.meet(process);
    }
}

/// Waits for the programs' own log; for ever where there is none.
async fn programs_speak(log: &mut Option<ProgramLog>) -> std::io::Result<()> {
    match log {
        Some(log) => log.read().await,
        None => std::future::pending().await,
    }
}

/// Now, on this host.
fn origin(host: &Host) -> Origin {
    Origin::new(host.name(), clock::wall_offset_ns(), clock::suspended_ns())
}

/// What a recording of this run has to know of the host.
fn header(host: &Host, hz: u32, vantage: Option<u32>) -> Header {
    Header {
        schema: recording::SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host.name().to_owned(),
        ktime_ns: clock::monotonic_ns(),
        clock_offset_ns: clock::wall_offset_ns(),
        hz,
        suspended_ns: clock::suspended_ns(),
        vantage,
        reset_reasons: host.reset_reasons().iter().map(|(number, name)| (name.clone(), *number)).collect(),
        hooks: host.hooks(),
        groups: host.groups(),
    }
}

/// Lets the outputs ask the kernel: for counters at a scrape, and for the ends of healthy connections while
/// somebody watches with `--all`.
fn connect(kernel: &Arc<Mutex<Kernel>>, host: &Arc<Host>, metrics: &Arc<Metrics>, hub: &Hub) {
    metrics.set_hooks(host.hooks());
    metrics.set_source(Box::new(Arc::clone(host)));
    let dropped = Arc::clone(metrics);
    hub.on_dropped(move |sink| dropped.dropped(sink, 1));
    let switched = Arc::clone(kernel);
    hub.on_all_ends(move |all| {
        if let Err(error) = lock(&switched).queue_all_ends(all) {
            tracing::error!("cannot switch the ends of healthy connections on or off: {error}");
        }
    });
}

/// A panic while the lock was held leaves the maps as they were.
fn lock(kernel: &Mutex<Kernel>) -> MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hooks as the outputs show them.
fn hook_views(hooks: &[kernel::HookStatus]) -> Vec<HookView> {
    hooks
        .iter()
        .map(|status| HookView {
            hook: status.hook.name.to_owned(),
            how: status.attached.map(|way| way.name().to_owned()),
            attached: status.attached.is_some(),
        })
        .collect()
}
