//! Who did it: processes of one name that ended alike, as one.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Culprit;
use super::seen::SeenCulprit;
use crate::output::view::ExitView;

/// Kinds of culprits of one group.
const KINDS: usize = 8;
/// Pids that are shown of one kind.
const PIDS: usize = 8;
/// Processes that are told apart.
pub const PROCESSES: usize = 256;

/// The culprits of one group.
#[derive(Clone, Debug, Default)]
pub struct Culprits {
    kinds: Vec<Alike>,
    others: u64,
}

#[derive(Clone, Debug)]
struct Alike {
    told: Culprit,
    known: HashSet<(u32, Option<Timestamp>)>,
}

impl Culprits {
    pub fn add(&mut self, culprit: &SeenCulprit<'_>, time: Timestamp) {
        let killer = culprit.killed_by.as_ref().map(|by| &*by.comm);
        let is = |kind: &Alike| {
            kind.told.comm == *culprit.comm
                && kind.told.exit == culprit.exit
                && kind.told.killed_by.as_deref() == killer
        };
        let at = match self.kinds.iter().position(is) {
            Some(at) => at,
            None if self.kinds.len() == KINDS => {
                self.others += 1;
                return;
            }
            None => {
                self.kinds.push(Alike::new(culprit, time));
                self.kinds.len() - 1
            }
        };
        self.kinds[at].add(culprit, time);
    }

    /// The most losses first, and how many losses have others.
    pub fn finish(self) -> (Vec<Culprit>, u64) {
        let mut told: Vec<_> = self.kinds.into_iter().map(|kind| kind.told).collect();
        told.sort_by(|a, b| b.losses.cmp(&a.losses).then_with(|| a.comm.cmp(&b.comm)));
        (told, self.others)
    }
}

impl Alike {
    fn new(culprit: &SeenCulprit<'_>, time: Timestamp) -> Self {
        let killed_by = culprit.killed_by.as_ref().map(|by| by.comm.to_string());
        Self {
            told: Culprit {
                comm: culprit.comm.to_string(),
                pids: Vec::new(),
                processes: 0,
                ended: culprit.exit.as_ref().map(|exit| how_ended(exit, killed_by.as_deref())),
                exit: culprit.exit.clone(),
                killed_by,
                losses: 0,
                first: time,
                last: time,
                started: None,
            },
            known: HashSet::new(),
        }
    }

    fn add(&mut self, culprit: &SeenCulprit<'_>, time: Timestamp) {
        let told = &mut self.told;
        told.losses += 1;
        told.first = told.first.min(time);
        told.last = told.last.max(time);
        told.started = told.started.max(culprit.started);
        if self.known.len() < PROCESSES && self.known.insert((culprit.pid, culprit.started)) {
            told.processes += 1;
            if told.pids.len() < PIDS {
                told.pids.push(culprit.pid);
            }
        }
    }
}

/// `OOM-killed`, `killed by bash (SIGKILL)`, `ended by SIGSEGV`, `exited with code 2`.
pub fn how_ended(exit: &ExitView, killed_by: Option<&str>) -> String {
    match (&exit.signal, killed_by, exit.code) {
        _ if exit.oom => "OOM-killed".to_owned(),
        (Some(signal), Some(killer), _) => format!("killed by {killer} ({signal})"),
        (Some(signal), None, _) => format!("ended by {signal}"),
        (None, _, Some(code)) => format!("exited with code {code}"),
        (None, _, None) => "ended".to_owned(),
    }
}
