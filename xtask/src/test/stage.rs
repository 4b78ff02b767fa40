//! One stage of the tests: a command with a log, a deadline and a count.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{DEADLINE, libtest};
use crate::layout;
use crate::outcome::Outcome;

/// How long the pause between two looks at a running stage is.
const POLL: Duration = Duration::from_millis(50);
const SHOWN_LINES: usize = 150;

/// How a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As one, by its exit code.
    Check,
    /// By the tests that ran, and at least one must have.
    Tests,
    /// By the tests that ran, and none may have matched.
    FilteredTests,
}

#[derive(Debug)]
pub struct Stage {
    name: String,
    kind: Kind,
    command: Command,
    deadline: Duration,
}

#[derive(Debug)]
pub struct Report {
    pub name: String,
    pub outcome: Outcome,
    pub elapsed: Duration,
    pub log: PathBuf,
}

/// How a command ended.
enum End {
    Exited(ExitStatus),
    TimedOut,
}

// === impl Stage ===

impl Stage {
    fn new(name: &str, kind: Kind, command: Command) -> Self {
        Self { name: name.to_owned(), kind, command, deadline: DEADLINE }
    }

    /// Another deadline than the other stages have.
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub fn check(name: &str, command: Command) -> Self {
        Self::new(name, Kind::Check, command)
    }

    pub fn tests(name: &str, command: Command) -> Self {
        Self::new(name, Kind::Tests, command)
    }

    pub fn filtered(name: &str, command: Command) -> Self {
        Self::new(name, Kind::FilteredTests, command)
    }

    /// Runs it to its end or its deadline, and prints how it went; a failure with the part of the log that
    /// explains it.
    pub fn run(mut self) -> Report {
        let start = Instant::now();
        let log = log_file(&self.name);
        let end = run_logged(&mut self.command, &log, self.deadline);
        let elapsed = start.elapsed();
        let text =
            fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let fault = match &end {
            Ok(End::Exited(status)) if status.success() => None,
            Ok(End::Exited(status)) => Some(status.to_string()),
            Ok(End::TimedOut) => Some(format!("killed after {} minutes", self.deadline.as_secs() / 60)),
            Err(error) => Some(format!("{error:#}")),
        };
        let outcome = count(self.kind, fault.is_none(), &text);
        let report = Report { name: self.name, outcome, elapsed, log };
        report.announce(fault.as_deref(), &text);
        report
    }
}

// === impl Report ===

impl Report {
    pub fn not_run(name: &str, why: &str) -> Self {
        println!("{name}: not run: {why}");
        Self {
            name: name.to_owned(),
            outcome: Outcome::of_one(false),
            elapsed: Duration::ZERO,
            log: log_file(name),
        }
    }

    fn announce(&self, fault: Option<&str>, text: &str) {
        let (name, outcome, seconds) = (&self.name, self.outcome, self.elapsed.as_secs_f64());
        let mut lines = format!("{name}: {outcome} ({seconds:.1} s)");
        if outcome.failed > 0 {
            let fault = fault.unwrap_or("no test ran");
            let part = libtest::failing_part(text, SHOWN_LINES);
            lines = format!("{lines}: {fault}\n{part}\n{name}: the whole log is in {}", self.log.display());
        }
        // In one piece: stages run side by side.
        println!("{lines}");
    }
}

fn count(kind: Kind, success: bool, log: &str) -> Outcome {
    if kind == Kind::Check {
        return Outcome::of_one(success);
    }
    let libtest::Counts { passed, mut failed } = libtest::counts(log);
    // A harness that died, or that did not compile, printed no result.
    let silent_failure = !success && failed == 0;
    let nothing_ran = kind == Kind::Tests && passed == 0 && failed == 0;
    if silent_failure || nothing_ran {
        failed = 1;
    }
    Outcome { passed, failed }
}

fn log_file(name: &str) -> PathBuf {
    let stem = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    layout::test_logs().join(format!("{}.log", stem.trim_end_matches('-')))
}

fn run_logged(command: &mut Command, log: &Path, deadline: Duration) -> Result<End> {
    let open = || -> io::Result<(File, File)> {
        fs::create_dir_all(layout::test_logs())?;
        let file = File::create(log)?;
        Ok((file.try_clone()?, file))
    };
    let (stdout, stderr) = open().with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    // A group of its own, so that whatever it has started can be ended with it.
    let mut child = command.process_group(0).spawn().with_context(|| format!("cannot run {command:?}"))?;
    let group = Pid::from_child(&child);
    running().push(group);
    let end = wait(&mut child, group, deadline);
    running().retain(|other| *other != group);
    Ok(end?)
}

fn wait(child: &mut Child, group: Pid, deadline: Duration) -> io::Result<End> {
    let start = Instant::now();
    while start.elapsed() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exited(status));
        }
        thread::sleep(POLL);
    }
    kill(group);
    child.wait()?;
    Ok(End::TimedOut)
}

/// The process groups that an interrupted run must not leave behind.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes ctrl-C end the stages: in groups of their own, they do not see it themselves.
///
/// # Errors
/// When the signals have a handler already.
pub fn die_with_children() -> Result<()> {
    let handler = || {
        running().drain(..).for_each(kill);
        std::process::exit(130);
    };
    ctrlc::set_handler(handler).context("cannot handle signals")
}

/// The executables that sudo has started belong to root: sudo passes SIGTERM on to them, but not SIGKILL.
fn kill(group: Pid) {
    let _ = kill_process_group(group, Signal::TERM);
    thread::sleep(Duration::from_secs(1));
    // Most are gone by now, and that is no error.
    let _ = kill_process_group(group, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{End, Kind, count, log_file, run_logged, running};
    use crate::outcome::Outcome;

    const ONE_OF_TWO: &str = "test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
    const NONE: &str = "test result: ok. 0 passed; 0 failed; 0 ignored\n";

    #[test]
    fn tests_are_counted_one_by_one() {
        assert_eq!(count(Kind::Tests, false, ONE_OF_TWO), Outcome { passed: 1, failed: 1 });
    }

    #[test]
    fn a_stage_that_ran_no_test_has_failed_unless_a_filter_left_none() {
        assert_eq!(count(Kind::Tests, true, NONE), Outcome { passed: 0, failed: 1 });
        assert_eq!(count(Kind::FilteredTests, true, NONE), Outcome::default());
    }

    #[test]
    fn a_harness_that_died_is_a_failure() {
        assert_eq!(count(Kind::Tests, false, ""), Outcome { passed: 0, failed: 1 });
        let others = "test result: ok. 7 passed; 0 failed\n";
        assert_eq!(count(Kind::FilteredTests, false, others), Outcome { passed: 7, failed: 1 });
    }

    #[test]
    fn a_check_counts_as_one() {
        assert_eq!(count(Kind::Check, true, ""), Outcome { passed: 1, failed: 0 });
        assert_eq!(count(Kind::Check, false, ""), Outcome { passed: 0, failed: 1 });
    }

    #[test]
    fn a_stage_past_its_deadline_is_killed_with_what_it_started() {
        let log = std::env::temp_dir().join(format!("xtask-stage-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        // It ends at once if the signal reaches the sleeping child as well; else the test would wait for it.
        command.args(["-c", "trap '' TERM; sleep 600 & echo $!; wait; wait"]);
        let end = run_logged(&mut command, &log, Duration::from_millis(300)).unwrap();
        assert!(matches!(end, End::TimedOut));
        assert!(running().is_empty());
        let child = std::fs::read_to_string(&log).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let is_gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let start = Instant::now();
        while !is_gone() {
            assert!(start.elapsed() < Duration::from_secs(5), "{stat} is still there");
            thread::sleep(super::POLL);
        }
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_log_has_the_name_of_its_stage() {
        assert!(log_file("clippy (kernel programs)").ends_with("clippy--kernel-programs.log"));
        assert!(log_file("vm 6.1").ends_with("vm-6.1.log"));
    }
}
