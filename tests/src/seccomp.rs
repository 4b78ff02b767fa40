//! The system calls of a systemd unit, as a filter of the kernel: what `SystemCallFilter=` allows, and death for the
//! rest, so that a call that was forgotten shows.

use std::collections::BTreeSet;
use std::io;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Sets of sets have sets of their own, and no more.
const DEPTH: usize = 8;

/// A program of the kernel's filter machine.
#[derive(Debug, Clone)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// What the values of `SystemCallFilter=`, in their order, allow; the first is a list of what is allowed.
    ///
    /// # Errors
    /// When systemd does not know a set, or the kernel's filter would be too long.
    pub fn of_unit(values: &[String]) -> Result<Self> {
        let mut allowed = BTreeSet::new();
        for value in values {
            let (forbidden, words) = match value.strip_prefix('~') {
                Some(words) => (true, words),
                None => (false, value.as_str()),
            };
            for word in words.split_whitespace() {
                for call in members(word, DEPTH)? {
                    if forbidden {
                        allowed.remove(&call)
                    } else {
                        allowed.insert(call)
                    };
                }
            }
        }
        let mut numbers = BTreeSet::new();
        for call in &allowed {
            numbers.extend(number(call)?);
        }
        ensure!(numbers.len() > 100, "only {numbers:?} of {allowed:?}");
        Ok(Self::allowing(&numbers))
    }

    fn allowing(numbers: &BTreeSet<u32>) -> Self {
        let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
            // Each of these codes fits into 16 bits, by the definition of the field that they are for.
            code: u16::try_from(code).unwrap_or_default(),
            jt,
            jf,
            k,
        };
        // The number of the call is the first member of `struct seccomp_data`.
        let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
        for number in numbers {
            program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *number));
            program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
        }
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
        Self(program)
    }

    /// Binds the calling thread and all that it starts, which gain no privileges any more. Between fork and exec it
    /// may be called: it allocates nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn apply(&self) -> io::Result<()> {
        let length = u16::try_from(self.0.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len: length, filter: self.0.as_ptr().cast_mut() };
        // SAFETY: prctl(2) reads the program, which lives until it returns.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The calls of a set, or the call itself.
fn members(word: &str, depth: usize) -> Result<Vec<String>> {
    if !word.starts_with('@') {
        return Ok(vec![word.to_owned()]);
    }
    ensure!(depth > 0, "{word} has too many sets in sets");
    let output = Command::new("systemd-analyze").args(["--no-pager", "syscall-filter", word]).output();
    let output = output.context("run systemd-analyze")?;
    ensure!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut calls = Vec::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        calls.extend(members(line, depth - 1)?);
    }
    Ok(calls)
}

/// Its number on this machine, if it has one here.
fn number(call: &str) -> Result<Option<u32>> {
    let output = Command::new("scmp_sys_resolver").arg(call).output().context("run scmp_sys_resolver")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number: i64 = text.trim().parse().with_context(|| format!("{call} is {text:?}"))?;
    // Negative ones stand for calls of other architectures.
    Ok(u32::try_from(number).ok())
}
