//! The processes that were seen in the losses: when they were started, how they ended, how often they came back.

use std::collections::HashMap;

use jiff::Timestamp;

use super::culprits::{PROCESSES, how_ended};
use super::seen::Seen;
use super::{Instance, Part, Program};

/// Programs that are counted, and those that are shown.
const COUNTED: usize = 512;
const SHOWN: usize = 20;
/// Processes that are shown of each.
const LATEST: usize = 5;

/// The count.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// By the name of the program.
    known: HashMap<String, Vec<Counted>>,
    count: usize,
}

#[derive(Clone, Debug)]
struct Counted {
    part: Part,
    container: Option<String>,
    losses: u64,
    instances: HashMap<(u32, Option<Timestamp>), Instance>,
    /// When the first of them was seen to have ended.
    first_end: Option<Timestamp>,
}

/// One process in one loss.
struct Sight<'a> {
    part: Part,
    comm: &'a str,
    container: Option<&'a str>,
    pid: u32,
    started: Option<Timestamp>,
    seen: Timestamp,
    dead: bool,
}

// === impl Programs ===

impl Programs {
    pub fn add(&mut self, seen: &Seen<'_>) {
        if let Some(owner) = &seen.owner {
            let container = owner.container.as_deref();
            let (pid, started) = (owner.pid, owner.started);
            let (part, seen) = (Part::Owner, seen.time);
            let sight = Sight { part, comm: &owner.comm, container, pid, started, seen, dead: false };
            self.note(&sight, || None);
        }
        if let Some(culprit) = &seen.culprit {
            let (pid, started) = (culprit.pid, culprit.started);
            let sight = Sight {
                part: Part::Culprit,
                comm: &culprit.comm,
                container: None,
                pid,
                started,
                seen: seen.time,
                dead: culprit.exit.is_some(),
            };
            let killer = culprit.killed_by.as_ref().map(|by| &*by.comm);
            self.note(&sight, || culprit.exit.as_ref().map(|exit| how_ended(exit, killer)));
        }
    }

    /// Culprits first, the most losses first.
    pub fn finish(self) -> Vec<Program> {
        let programs = self.known.into_iter();
        let mut programs: Vec<Program> = programs
            .flat_map(|(comm, parts)| parts.into_iter().map(move |part| part.finish(comm.clone())))
            .collect();
        programs.sort_by(|a, b| {
            let by_weight = a.part.cmp(&b.part).then(b.losses.cmp(&a.losses));
            by_weight.then_with(|| (&a.comm, &a.container).cmp(&(&b.comm, &b.container)))
        });
        programs.truncate(SHOWN);
        programs
    }

    fn note(&mut self, sight: &Sight<'_>, ended: impl FnOnce() -> Option<String>) {
        let parts = match self.known.get_mut(sight.comm) {
            Some(parts) => parts,
            None if self.count < COUNTED => self.known.entry(sight.comm.to_owned()).or_default(),
            None => return,
        };
        let is = |part: &Counted| part.part == sight.part && part.container.as_deref() == sight.container;
        let at = match parts.iter().position(is) {
            Some(at) => at,
            None if self.count < COUNTED => {
                self.count += 1;
                parts.push(Counted::new(sight));
                parts.len() - 1
            }
            None => return,
        };
        parts[at].add(sight, ended);
    }
}

// === impl Counted ===

impl Counted {
    fn new(sight: &Sight<'_>) -> Self {
        Self {
            part: sight.part,
            container: sight.container.map(str::to_owned),
            losses: 0,
            instances: HashMap::new(),
            first_end: None,
        }
    }

    fn add(&mut self, sight: &Sight<'_>, ended: impl FnOnce() -> Option<String>) {
        self.losses += 1;
        let (pid, started) = (sight.pid, sight.started);
        let full = self.instances.len() == PROCESSES;
        if full && !self.instances.contains_key(&(pid, started)) {
            return;
        }
        let new = || Instance { pid, started, seen: sight.seen, ended: None, losses: 0 };
        let instance = self.instances.entry((pid, started)).or_insert_with(new);
        instance.losses += 1;
        if sight.dead && instance.ended.is_none() {
            instance.ended = ended();
            instance.seen = sight.seen;
        }
        // Of one that has ended the first loss with its end tells when.
        match (instance.ended.is_some(), sight.dead) {
            (false, _) => instance.seen = instance.seen.max(sight.seen),
            (true, true) => instance.seen = instance.seen.min(sight.seen),
            (true, false) => {}
        }
        if instance.ended.is_some() {
            self.first_end = Some(self.first_end.map_or(sight.seen, |end| end.min(sight.seen)));
        }
    }

    fn finish(self, comm: String) -> Program {
        let mut latest: Vec<_> = self.instances.into_values().collect();
        latest.sort_by_key(|instance| (instance.started, instance.seen, instance.pid));
        let after_an_end = |i: &&Instance| i.started.zip(self.first_end).is_some_and(|(at, end)| at > end);
        let (restarts, ended) = (latest.iter().filter(after_an_end).count(), latest.iter());
        let ended = ended.filter(|instance| instance.ended.is_some()).count();
        let processes = latest.len();
        latest.drain(..processes.saturating_sub(LATEST));
        Program {
            comm,
            part: self.part,
            container: self.container,
            losses: self.losses,
            processes: processes as u64,
            ended: ended as u64,
            restarts: restarts as u64,
            latest,
        }
    }
}
