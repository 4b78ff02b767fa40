//! Programs on their way into the kernel: loaded side by side, attached one after the other.
//!
//! Most of the start is the verifier's time, and most of that is for one program. It looks at several at once, for
//! whoever has CAP_BPF (`bpf_check` of kernel/bpf/verifier.c takes its lock only for others).

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};

use super::hooks::{Attachment, Hook, HookStatus, Way};
use super::support;

/// It takes the verifier longer than all others together, and so comes first.
const SLOWEST: &str = "inet_sock_set_state";

/// What came of loading programs, by their names in the object.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    results: BTreeMap<&'static str, Result<(), ProgramError>>,
}

// === impl Loaded ===

impl Loaded {
    /// Loads programs, each with its tracepoint, kernel function or iterator, on as many processors as there are.
    pub fn side_by_side(ebpf: &mut Ebpf, wanted: &[(&'static str, &'static str)], btf: &Btf) -> Self {
        let waiting = ebpf.programs_mut().filter_map(|(name, program)| {
            let (name, target) = wanted.iter().find(|(wanted, _)| *wanted == name)?;
            Some((*name, *target, program))
        });
        let mut waiting: Vec<_> = waiting.collect();
        // The last is taken first.
        waiting.sort_by_key(|(name, ..)| *name == SLOWEST);
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(waiting.len());
        let (waiting, results) = (Mutex::new(waiting), Mutex::new(BTreeMap::new()));
        let work = || {
            loop {
                let next = locked(&waiting).pop();
                let Some((name, target, program)) = next else { break };
                let result = load(program, target, btf);
                locked(&results).insert(name, result);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // Without another thread this one does it all.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        Self { results: results.into_inner().unwrap_or_else(PoisonError::into_inner) }
    }

    /// What came of one of them, once.
    ///
    /// # Errors
    /// Why it was not loaded.
    pub fn result(&mut self, program: &'static str) -> Result<(), ProgramError> {
        self.results.remove(program).unwrap_or(Err(ProgramError::NotLoaded))
    }

    /// Tries the ways in order; the reasons of those that failed are kept.
    pub fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        hook: &'static Hook,
        ways: &[Attachment],
        btf: &Btf,
    ) -> HookStatus {
        let mut reasons = Vec::new();
        for way in ways {
            match self.attach_one(ebpf, way, btf) {
                Ok(()) => return HookStatus { hook, attached: Some(way.way), reasons },
                Err(reason) => reasons.push(format!("{}: {reason}", way.way.name())),
            }
        }
        if ways.is_empty() {
            reasons.push("not to be had on this kernel".into());
        }
        HookStatus { hook, attached: None, reasons }
    }

    fn attach_one(&mut self, ebpf: &mut Ebpf, way: &Attachment, btf: &Btf) -> Result<(), String> {
        let program = ebpf.program_mut(way.program).ok_or_else(|| format!("no program {}", way.program))?;
        // The second-best ways are loaded only when they are needed.
        let loaded = self.results.remove(way.program).unwrap_or_else(|| load(program, way.target, btf));
        loaded.and_then(|()| attach(program, way)).map_err(|error| brief(&error))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::BtfTracePoint(program) => program.load(target, btf),
        Program::FEntry(program) => program.load(target, btf),
        Program::FExit(program) => program.load(target, btf),
        Program::Iter(program) => program.load(target, btf),
        Program::KProbe(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach(program: &mut Program, way: &Attachment) -> Result<(), ProgramError> {
    match (way.way, program) {
        (Way::TpBtf, Program::BtfTracePoint(program)) => program.attach().map(drop),
        (Way::Fentry, Program::FEntry(program)) => program.attach().map(drop),
        (Way::Fexit, Program::FExit(program)) => program.attach().map(drop),
        (Way::Kprobe, Program::KProbe(program)) => program.attach(way.target, 0).map(drop),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// One line: the verifier's log is cut to its last words unless `RSTRACE_VERIFIER_LOG` asks for all of it.
pub(super) fn brief(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        if std::env::var_os("RSTRACE_VERIFIER_LOG").is_some() {
            return format!("{io_error}\n{log}");
        }
        return match support::last_words(&log) {
            Some(words) => format!("{io_error} ({words})"),
            None => io_error.to_string(),
        };
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
