//! Loads the object and attaches what can be attached. Every program loads on its own and may be missing; only
//! the required ones end the start.

use std::panic::resume_unwind;
use std::thread;

use aya::maps::{Array, MapData};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use thiserror::Error;
use tracer_ebpf::config::{flag, limit};

use super::attach::Loaded;
use super::counters::CountersError;
use super::groups::{Group, Groups};
use super::hooks::{HOOKS, Hook, HookStatus, needs, ways};
use super::iterator::{Iterator, LookError};
use super::offsets::{Layout, OffsetsError};
use super::program_log::ProgramLog;
use super::ring::Ring;
use super::snapshot::{Found, Wanted};
use super::support::{self, Support, Verdict};
use super::{clock, memory, privileges, snapshot};
use crate::event::Existing;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rstrace-bpf"));

/// System calls that the optional groups look at, in the order in which the programs expect them.
const SYSCALLS: [u32; 3] = [libc::SYS_connect as u32, libc::SYS_close as u32, libc::SYS_shutdown as u32];

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only this network namespace (`--vantage`), by inode number.
    pub vantage: Option<u32>,
    /// The optional groups of hooks (`--with`).
    pub groups: Groups,
    /// Let the programs write to the log (aya-log).
    pub debug_programs: bool,
}

/// The loaded programs. They are detached when it is dropped.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub layout: Layout,
    pub support: Support,
    pub hooks: Vec<HookStatus>,
    /// The optional groups that were asked for.
    pub groups: Groups,
    config: Array<MapData, u32>,
    flags: u32,
    vantage: Option<u32>,
    program_log: Option<ProgramLog>,
    /// Ticks of the kernel's jiffies in a second.
    pub hz: u32,
}

/// Why the programs cannot run here.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    #[error("cannot load the BPF object: {0}")]
    Object(#[from] aya::EbpfError),
    #[error("the BPF object has no map {name}: the agent and the object are of different builds")]
    NoMap { name: &'static str },
    #[error("cannot read the kernel's BTF: {0}")]
    Btf(#[from] aya::BtfError),
    #[error("cannot use the map {map}: {source}")]
    Map { map: &'static str, source: aya::maps::MapError },
    #[error("cannot attach {hook}, without which {without}: {reason}")]
    Required { hook: &'static str, without: &'static str, reason: String },
    #[error("cannot read what exists on this host: {0}")]
    Snapshot(#[from] LookError),
    #[error(transparent)]
    Counters(#[from] CountersError),
    #[error("cannot look at the network namespaces of this host: {0}")]
    Namespaces(#[source] LookError),
    #[error("cannot read the log of the programs: {0}")]
    ProgramLog(std::io::Error),
    #[error("cannot watch the ring buffer: {0}")]
    Ring(std::io::Error),
    #[error(transparent)]
    Privileges(std::io::Error),
}

impl LoadError {
    /// Not permitted, or a kernel that cannot do it: exit code 3.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotPermitted(_) | Self::Unsupported(_) | Self::Offsets(_))
    }
}

impl Kernel {
    /// Loads and attaches everything, and reads what existed before. Returns the ring and the listeners with it.
    ///
    /// # Errors
    /// If the host does not support or permit it, or a required hook cannot be attached.
    pub fn load(options: &Options) -> Result<(Self, Ring, Found), LoadError> {
        memory::keep_little();
        let support = Self::supported()?;
        let (layout, btf) = thread::scope(|scope| {
            let btf = scope.spawn(Btf::from_sys_fs);
            (Layout::read(&support.btf), btf.join())
        });
        let (layout, btf) = (layout?, btf.unwrap_or_else(|panic| resume_unwind(panic))?);
        let mut ebpf = load_object(&layout, &support, options, &btf)?;
        let ring = Ring::new(take(&mut ebpf, "EVENTS")?).map_err(LoadError::Ring)?;
        let config = Array::try_from(take(&mut ebpf, "CONFIG")?)
            .map_err(|source| LoadError::Map { map: "CONFIG", source })?;
        let program_log = options
            .debug_programs
            .then(|| ProgramLog::new(&mut ebpf))
            .transpose()
            .map_err(LoadError::ProgramLog)?;
        let mut kernel = Self {
            ebpf,
            layout,
            support,
            hooks: Vec::new(),
            groups: options.groups,
            config,
            flags: 0,
            vantage: options.vantage,
            program_log,
            hz: clock::jiffies_per_second(),
        };
        kernel.free_all_places()?;
        super::namespaces::load(&mut kernel.ebpf, &btf).map_err(LoadError::Namespaces)?;
        let existing = kernel.attach_all(&btf)?;
        drop(btf);
        memory::give_back();
        Ok((kernel, ring, existing))
    }

    /// Whether it is worth trying: what can be known before anything is loaded.
    ///
    /// # Errors
    /// Not permitted, or a kernel that cannot do it.
    pub fn supported() -> Result<Support, LoadError> {
        let support = Support::probe();
        match support.verdict() {
            Verdict::Supported => Ok(support),
            Verdict::NotPermitted(line) => Err(LoadError::NotPermitted(line)),
            Verdict::Unsupported(line) => Err(LoadError::Unsupported(line)),
        }
    }

    /// Attaches the hooks that are asked for, in order; the snapshot is read when the change of state is seen and before reads are.
    fn attach_all(&mut self, btf: &Btf) -> Result<Found, LoadError> {
        let tcp_fin = std::env::var("RSTRACE_TCP_FIN").ok();
        let asked = HOOKS.iter().filter(|hook| hook.is_asked_for(self.groups));
        let asked = asked.filter_map(|hook| Some((hook, ways(hook, &self.layout, tcp_fin.as_deref())?)));
        let asked: Vec<_> = asked.collect();
        let best = asked.iter().filter_map(|(_, ways)| ways.first());
        let mut programs: Vec<_> = best.map(|way| (way.program, way.target)).collect();
        let Iterator { program: snapshot, target } = snapshot::ITERATOR;
        programs.push((snapshot, target));
        let mut loaded = Loaded::side_by_side(&mut self.ebpf, &programs, btf);
        let mut existing = Found::default();
        for (hook, ways) in asked {
            if hook.name == "tcp_rcv_space_adjust" {
                loaded.result(snapshot).map_err(LookError::of(target))?;
                existing = self.read_existing()?;
            }
            let missing = needs(hook).filter(|needed| !self.is_attached(needed));
            let status = match missing {
                Some(needed) => HookStatus { hook, attached: None, reasons: vec![format!("needs {needed}")] },
                None => loaded.attach(&mut self.ebpf, hook, &ways, btf),
            };
            if status.attached.is_none() && hook.required {
                return Err(self.required(hook, &status));
            }
            self.hooks.push(status);
        }
        self.set(flag::ATTACHED, true)?;
        Ok(existing)
    }

    pub(super) fn is_attached(&self, name: &str) -> bool {
        self.hooks.iter().any(|status| status.hook.name == name && status.attached.is_some())
    }

    fn read_existing(&mut self) -> Result<Found, LoadError> {
        snapshot::pass(&mut self.ebpf, Wanted::Listeners)?;
        self.set(flag::SNAPSHOT_MARK, true)?;
        let found = snapshot::pass(&mut self.ebpf, Wanted::Listeners)?;
        self.set(flag::SNAPSHOT_MARK, false)?;
        Ok(found)
    }

    /// Looks at the sockets between these ports (local, peer; peer 0: listeners), whoever holds them.
    ///
    /// Runs over every file of every process: for rare questions, with a pause between them.
    ///
    /// # Errors
    /// If the iterator cannot be run.
    pub fn look(&mut self, ports: &[(u16, u16)]) -> Result<Vec<Existing>, LoadError> {
        snapshot::ask(&mut self.ebpf, ports, true)?;
        self.set(flag::SNAPSHOT_ASKED, true)?;
        let found = snapshot::pass(&mut self.ebpf, Wanted::All);
        self.set(flag::SNAPSHOT_ASKED, false)?;
        snapshot::ask(&mut self.ebpf, ports, false)?;
        Ok(found?.wanted)
    }

    fn required(&self, hook: &Hook, status: &HookStatus) -> LoadError {
        let reason = status.reasons.join("; ");
        if support::lacks_a_helper(&reason) {
            return LoadError::Unsupported(self.support.no_helper());
        }
        LoadError::Required { hook: hook.name, without: hook.without, reason }
    }

    /// Gives up what only loading and attaching needed, in this thread and in those that it starts from now on;
    /// `for_conntrack` keeps the right to ask conntrack.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn give_up_the_rest(&self, for_conntrack: bool) -> Result<(), LoadError> {
        privileges::keep_what_works_on(for_conntrack).map_err(LoadError::Privileges)
    }

    /// Whether the ends of healthy connections are queued too (`--all`).
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn queue_all_ends(&mut self, all: bool) -> Result<(), LoadError> {
        self.set(flag::ALL_ENDS, all)
    }

    fn set(&mut self, bit: u32, on: bool) -> Result<(), LoadError> {
        let flags = if on { self.flags | bit } else { self.flags & !bit };
        if flags != self.flags {
            self.config.set(0, flags, 0).map_err(|source| LoadError::Map { map: "CONFIG", source })?;
            self.flags = flags;
        }
        Ok(())
    }

    /// What the programs log, once; None without `--debug-programs`.
    pub fn take_program_log(&mut self) -> Option<ProgramLog> {
        self.program_log.take()
    }

    /// The one namespace that is looked at.
    #[must_use]
    pub fn vantage(&self) -> Option<u32> {
        self.vantage
    }
}

fn load_object(layout: &Layout, support: &Support, options: &Options, btf: &Btf) -> Result<Ebpf, LoadError> {
    let offsets = layout.offsets.words();
    let vantage = options.vantage.unwrap_or(0);
    let has_reason = u32::from(layout.has_reset_reason());
    let hz = clock::jiffies_per_second();
    let debug = u32::from(options.debug_programs);
    let abort_reasons = layout.abort_reasons();
    let groups = options.groups.bits();
    let unix_sockets = if options.groups.has(Group::Unix) { limit::UNIX_SOCKETS } else { 1 };
    let may_read_memory = u32::from(!support.is_confidential);
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf));
    loader.override_global("OFFSETS", offsets.as_slice(), true);
    loader.override_global("VANTAGE", &vantage, true);
    loader.override_global("HAS_RESET_REASON", &has_reason, true);
    loader.override_global("HZ", &hz, true);
    loader.override_global("DROP_REASONS", layout.drop_reasons.as_slice(), true);
    loader.override_global("ABORT_REASONS", abort_reasons.as_slice(), true);
    loader.override_global("GROUPS", &groups, true);
    loader.override_global("MAY_READ_MEMORY", &may_read_memory, true);
    loader.override_global("SYSCALLS", &SYSCALLS, true);
    // A map that no program uses is made all the same.
    loader.map_max_entries("UNIX_SOCKETS", unix_sockets as u32);
    loader.override_global("DEBUG_PROGRAMS", &debug, true);
    loader.load(OBJECT).map_err(refused_or_broken)
}

/// Whoever has the capabilities and is refused all the same is held back by something else.
fn refused_or_broken(error: aya::EbpfError) -> LoadError {
    let first: &(dyn std::error::Error + 'static) = &error;
    let refused = std::iter::successors(Some(first), |error| error.source()).any(|error| {
        let io = error.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    });
    if refused { LoadError::NotPermitted(support::held_back(&error)) } else { LoadError::Object(error) }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::NoMap { name })
}
