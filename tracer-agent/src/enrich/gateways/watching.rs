//! The thread that keeps up with the gateways.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::known::Known;
use super::processes::{Process, Processes};
use super::read::Read;
use super::registration::{Proxy, Registration};
use crate::event;
use crate::event::Target;
use crate::output::text::printable;

/// Between two looks, if nobody asks for one.
const EVERY: Duration = Duration::from_secs(10);
/// Between two looks, whoever asks.
const LEAST: Duration = Duration::from_secs(1);
/// Processes that wait to be looked at.
const QUEUE: usize = 64;
/// Gateways that are read.
const GATEWAYS: usize = 256;

/// Answers what is known, and lets the thread look. It ends with this.
#[derive(Debug)]
pub struct Gateways {
    shared: Arc<Mutex<Shared>>,
    doubtful: SyncSender<u32>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Arc<Known>,
    /// Processes of gateways, workers included.
    pids: HashSet<u32>,
}

/// What is remembered from look to look.
#[derive(Default)]
struct Watching {
    processes: Processes,
    /// By number and start of the process.
    read: HashMap<(u32, u64), Read>,
    /// Faults are logged as they come; else they stand in what is returned, for whoever asked.
    logs: bool,
    /// That there are more gateways than are read was said.
    told_too_many: bool,
}

// === impl Gateways ===

impl Gateways {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (doubtful, asked) = sync_channel(QUEUE);
        let told = Arc::clone(&shared);
        std::thread::Builder::new().name("gateways".to_owned()).spawn(move || watch(&told, &asked))?;
        Ok(Self { shared, doubtful })
    }

    /// What is configured of a target in this network namespace.
    #[must_use]
    pub fn find(&self, target: &Target, netns: u32, owner: Option<&event::Process>) -> Option<Registration> {
        let (known, is_new) = {
            let shared = lock(&self.shared);
            let is_new =
                |p: &event::Process| Proxy::of_comm(&p.comm).is_some() && !shared.pids.contains(&p.tgid);
            (Arc::clone(&shared.known), owner.filter(|p| is_new(p)))
        };
        if let Some(process) = is_new {
            // With a full queue the next look is near.
            let _ = self.doubtful.try_send(process.tgid);
        }
        known.find(target, netns, owner.map(|p| p.comm.as_str()))
    }

    /// All that is known.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&lock(&self.shared).known)
    }
}

/// Reads the configuration of every gateway that runs, once.
#[must_use]
pub fn look_once() -> Known {
    Watching::default().look(&[]).unwrap_or_default()
}

/// A panic while the lock was held leaves what was known.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(shared: &Mutex<Shared>, asked: &Receiver<u32>) {
    let mut watching = Watching { logs: true, ..Watching::default() };
    let mut doubtful = Vec::new();
    loop {
        let started = Instant::now();
        let known = watching.look(&doubtful);
        {
            let mut shared = lock(shared);
            shared.pids.clone_from(watching.processes.pids());
            if let Some(known) = known {
                shared.known = Arc::new(known);
            }
        }
        doubtful.clear();
        match asked.recv_timeout(EVERY) {
            Ok(pid) => doubtful.push(pid),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // What asks together is answered together.
        std::thread::sleep(LEAST.saturating_sub(started.elapsed()));
        doubtful.extend(asked.try_iter());
    }
}

/// One line, however many faults there are.
fn log(process: &Process, faults: &[String]) {
    let Some((first, others)) = faults.split_first() else { return };
    let more = match others.len() {
        0 => String::new(),
        n => format!(" (and {n} more: `rstrace doctor`)"),
    };
    let name = format!("{}[{}]", process.proxy.comm(), process.pid);
    tracing::warn!("names of upstreams: the configuration of {name}: {}{more}", printable(first));
}

// === impl Watching ===

impl Watching {
    /// What is known now; None if nothing has changed.
    fn look(&mut self, doubtful: &[u32]) -> Option<Known> {
        let mut running = self.processes.look(doubtful);
        if self.logs && running.len() > GATEWAYS && !self.told_too_many {
            self.told_too_many = true;
            tracing::warn!("{} gateways run here: the configurations of {GATEWAYS} are read", running.len());
        }
        let beyond = running.len().saturating_sub(GATEWAYS) as u64;
        running.truncate(GATEWAYS);
        let keys: HashSet<_> = running.iter().map(|process| (process.pid, process.start)).collect();
        let before = self.read.len();
        self.read.retain(|key, _| keys.contains(key));
        let mut changed = before != self.read.len();
        for process in &running {
            changed |= self.read(process);
        }
        changed.then(|| {
            let mut known = Known::new(beyond);
            for process in &running {
                let Some(read) = self.read.get(&(process.pid, process.start)) else { continue };
                known.add(read.report(process), read.configuration.servers.iter());
            }
            known
        })
    }

    /// Reads a gateway again if it may have changed; says whether it has.
    fn read(&mut self, process: &Process) -> bool {
        let key = (process.pid, process.start);
        if self.read.get(&key).is_some_and(Read::is_fresh) {
            return false;
        }
        let last = self.read.remove(&key);
        let next = Read::new(process, last.as_ref());
        let is_news = last.as_ref().is_none_or(|l| l.configuration.faults != next.configuration.faults);
        if self.logs && is_news {
            log(process, &next.configuration.faults);
        }
        let changed = last.is_none_or(|last| !last.says_the_same_as(&next));
        self.read.insert(key, next);
        changed
    }
}
