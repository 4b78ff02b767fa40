//! Programs that do nothing, on the hooks of the agent: what the kernel takes for calling programs at all, and so the
//! limit of what the agent can reach.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::programs::{Run, Runs};
use crate::bpf;
use crate::scrape::{Sample, Scrape};

/// Numbers of uapi/linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0xb7, 0x95];

/// Attached while it lives.
#[derive(Debug)]
pub struct EmptyPrograms(Vec<Empty>);

#[derive(Debug)]
struct Empty {
    hook: String,
    program: File,
    _link: File,
}

impl EmptyPrograms {
    /// Loads and attaches one for each tracepoint at which the agent has a program, as its scrape says.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(scrape: &Scrape) -> Result<Self> {
        let (tracepoints, _) = hooks(scrape);
        let attached = tracepoints.into_iter().map(|hook| {
            let program = load().with_context(|| format!("load an empty program for {hook}"))?;
            let link = open(tracepoint(&hook), &program).with_context(|| format!("attach it to {hook}"))?;
            Ok(Empty { hook, program, _link: link })
        });
        Ok(Self(attached.collect::<Result<_>>()?))
    }

    /// Hooks of the agent that are no tracepoints, and so have no empty program.
    #[must_use]
    pub fn left_out(scrape: &Scrape) -> Vec<String> {
        hooks(scrape).1
    }

    /// The kernel's statistics of them, by hook.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn runs(&self) -> Result<Runs> {
        self.0.iter().map(|empty| Ok((empty.hook.clone(), run(&empty.program)?))).collect()
    }
}

/// The agent's hooks that are attached: tracepoints, and others.
fn hooks(scrape: &Scrape) -> (Vec<String>, Vec<String>) {
    let attached = scrape.matching("rstrace_hook_attached", &[]).filter(|sample| sample.value == 1.0);
    let (tracepoints, others): (Vec<_>, Vec<_>) =
        attached.partition(|sample| sample.label("how") == Some("tp_btf"));
    let names = |samples: Vec<&Sample>| {
        samples.iter().map(|sample| sample.label("hook").unwrap_or_default().to_owned()).collect()
    };
    (names(tracepoints), names(others))
}

/// Hooks are named after their tracepoints, but for those that share one.
fn tracepoint(hook: &str) -> &str {
    match hook {
        "refused_syn" => "tcp_send_reset",
        "packet_dropped" => "kfree_skb",
        hook => hook,
    }
}

fn run(program: &File) -> Result<Run> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).context("fdinfo")?;
    let figure = |key| bpf::figure(&text, key).unwrap_or(0.0);
    Ok(Run { runs: figure("run_cnt"), nanoseconds: figure("run_time_ns") })
}

/// The first members of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the others for 0.
#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// Those for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct OpenAttributes {
    name: u64,
    prog_fd: u32,
    _padding: u32,
}

fn load() -> io::Result<File> {
    let mut attributes = LoadAttributes {
        prog_type: PROG_TYPE_RAW_TRACEPOINT,
        insn_cnt: 2,
        insns: NOTHING.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    bpf::new_fd(PROG_LOAD, &mut attributes)
}

fn open(tracepoint: &str, program: &File) -> io::Result<File> {
    let name = CString::new(tracepoint)?;
    let prog_fd = program.as_raw_fd().cast_unsigned();
    let mut attributes = OpenAttributes { name: name.as_ptr() as u64, prog_fd, _padding: 0 };
    bpf::new_fd(RAW_TRACEPOINT_OPEN, &mut attributes)
}
