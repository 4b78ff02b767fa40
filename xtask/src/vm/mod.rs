//! `cargo xtask vm`: boots Debian's kernels in qemu and has `rstrace` judge broken connections there.
//!
//! It is the only place where kernels other than the developer's own run, and with them the hooks
//! that this machine may lack. What happens inside the machine, and what is expected of it, is the
//! program that boots there: `tests/src/bin/vm_init.rs`. This side fetches the kernel
//! ([`debian`]), builds and packs the programs ([`binaries`], [`initramfs`]), boots and watches the
//! console ([`machine`]), and counts the results ([`console`]).

mod binaries;
mod console;
mod debian;
mod initramfs;
mod machine;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::layout;
use crate::outcome::Outcome;
use console::Report;

/// Boot Debian kernels in qemu and run the smoke scenarios in them
#[derive(Debug, Clone, clap::Args)]
pub struct VmArgs {
    /// Kernel to boot; may be given several times [default: all of them]
    #[arg(long = "kernel", value_name = "KERNEL", value_enum)]
    pub kernels: Vec<Kernel>,
    /// Seconds until a machine that does not come to its end is given up
    #[arg(long, value_name = "SECONDS", default_value_t = VmArgs::DEADLINE_SECONDS)]
    pub deadline: u64,
}

impl VmArgs {
    const DEADLINE_SECONDS: u64 = 600;
}

impl Default for VmArgs {
    fn default() -> Self {
        Self { kernels: Vec::new(), deadline: Self::DEADLINE_SECONDS }
    }
}

/// A line of kernels, of which the newest that Debian has is taken, and how it is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernel {
    #[value(name = "5.10")]
    V5_10,
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    /// The same with `lockdown=confidentiality`.
    #[value(name = "6.12-lockdown")]
    V6_12Lockdown,
    #[value(name = "sid")]
    Sid,
}

impl Kernel {
    /// Every one, those first that take the longest: the others find a place beside them.
    pub const ALL: [Self; 5] = [Self::Sid, Self::V6_12, Self::V6_1, Self::V5_10, Self::V6_12Lockdown];

    pub fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V6_12Lockdown => "6.12-lockdown",
            Self::Sid => "sid",
        }
    }

    /// Where Debian keeps the newest kernel of this line, under the name of a package that always
    /// depends on it.
    fn source(self) -> debian::Source {
        let (archive, suite, package) = match self {
            Self::V5_10 => ("debian-security", "bullseye-security", "linux-image-cloud-amd64"),
            Self::V6_1 => ("debian-security", "bookworm-security", "linux-image-cloud-amd64"),
            Self::V6_12 | Self::V6_12Lockdown => {
                ("debian-security", "bookworm-security", "linux-image-6.12-cloud-amd64")
            }
            Self::Sid => ("debian", "sid", "linux-image-cloud-amd64"),
        };
        debian::Source { archive, suite, package }
    }

    /// The word that tells `vm_init` which scenarios to run.
    fn plan(self) -> &'static str {
        match self {
            Self::V5_10 => "refusal",
            Self::V6_12Lockdown => "lockdown",
            Self::V6_1 | Self::V6_12 | Self::Sid => "smoke",
        }
    }

    /// What is added to the kernel's command line.
    fn parameters(self) -> &'static str {
        match self {
            Self::V6_12Lockdown => "lockdown=confidentiality",
            Self::V5_10 | Self::V6_1 | Self::V6_12 | Self::Sid => "",
        }
    }
}

/// Boots each kernel in turn and adds up what passed in them.
///
/// # Errors
/// When a kernel cannot be fetched, the programs do not build, or qemu cannot be run. A machine that
/// does not come to its end is a failure that is counted, not an error.
pub fn run(args: &VmArgs) -> Result<Outcome> {
    let folder = layout::workspace().join("target/vm");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let kernels = if args.kernels.is_empty() { &Kernel::ALL[..] } else { &args.kernels };

    let initrd = folder.join("initramfs.cpio");
    let images = {
        let _lock = lock(&folder, "lock")?;
        initramfs::pack(&binaries::build(&folder)?, &initrd)?;
        kernels.iter().map(|kernel| fetch(*kernel, &folder)).collect::<Result<Vec<_>>>()?
    };

    let mut outcome = Outcome::default();
    for (kernel, image) in kernels.iter().zip(&images) {
        let _lock = lock(&folder, &format!("lock-{}", kernel.name()))?;
        let boot = machine::Boot {
            kernel: &image.file,
            initrd: &initrd,
            plan: kernel.plan(),
            parameters: kernel.parameters(),
            log: folder.join(format!("{}.log", kernel.name())),
            deadline: Duration::from_secs(args.deadline),
        };
        eprintln!("vm {}: booting Linux {} (scenarios: {})", kernel.name(), image.version, boot.plan);
        let report = machine::run(&boot)?;
        summarize(*kernel, &boot, &report);
        outcome += Outcome { passed: report.passed, failed: report.failed() };
    }
    Ok(outcome)
}

/// Two runs at once would build, fetch and log over each other. The kernel lets go of the lock with the file.
fn lock(folder: &Path, name: &str) -> Result<File> {
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("vm: waiting for another run to end");
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

fn fetch(kernel: Kernel, folder: &Path) -> Result<debian::Image> {
    debian::fetch(&kernel.source(), &folder.join("cache"))
        .with_context(|| format!("cannot get Debian's kernel {}", kernel.name()))
}

fn summarize(kernel: Kernel, boot: &machine::Boot<'_>, report: &Report) {
    let (name, log) = (kernel.name(), boot.log.display());
    if let Some(fault) = report.fault() {
        eprintln!("vm {name}: {fault}; it had {:?} time; its console is in {log}", boot.deadline);
    } else {
        eprintln!("vm {name}: {} passed, {} failed; its console is in {log}", report.passed, report.failed());
    }
}
