//! `cargo xtask test`: every check of this repository, as few minutes as the machine's cores allow, and one plain
//! last line. A stage that fails does not keep the next from running; a stage that ran no test has failed.
//!
//! The virtual machines need one core each and run beside the compiler. The scenarios on real servers wait until
//! all else is done, because they hold the agent to its time limits.

mod libtest;
mod stage;

use std::env;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::outcome::Outcome;
use crate::vm::Kernel;
use crate::{fuzz, image, layout, lint, privilege, run, scenarios as scoreboard, setup};
use stage::{Report, Stage};

const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// All cases of the scoreboard together, which mostly wait and play side by side.
const SCOREBOARD_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Virtual machines that run side by side. Each has two processors that are emulated, and is idle half of the time.
const MACHINES: usize = 2;
const UNIT_PACKAGES: [&str; 4] = ["tracer-ebpf", "tracer-agent", "xtask", "rstrace-fuzz"];
const SCENARIOS: &str = "scenarios";
const SCOREBOARD: &str = "scoreboard";
/// What the names of tests begin with that run the static program.
const OF_THE_IMAGE: &str = "image_";
const STATIC_BUILD: &str = "build (static, for the image)";
/// Runs everything, or the tests whose names contain `filter`.
///
/// # Errors
/// When the tests cannot be run at all; that some failed is an outcome.
pub fn run(filter: Option<&str>) -> Result<Outcome> {
    setup::run(true)?;
    stage::die_with_children()?;
    if !privilege::is_root() {
        // Asked for once, here, where there is a terminal; the stages run without one.
        Command::new("sudo").arg("-v").status().context("cannot run sudo")?;
        thread::spawn(keep_sudo);
    }
    let reports = match filter {
        None => everything()?,
        Some(filter) => matching(filter)?,
    };
    Ok(summarize(&reports))
}

/// sudo forgets after a quarter of an hour, and compiling takes longer on a small machine.
fn keep_sudo() {
    loop {
        thread::sleep(Duration::from_secs(60));
        // If it refuses, the stage that needs it says so.
        let _ = Command::new("sudo").args(["-n", "-v"]).status();
    }
}

fn everything() -> Result<Vec<Report>> {
    let xtask = env::current_exe().context("cannot find this program")?;
    let kernel_clippy = lint::kernel_clippy()?;
    let static_build = image::build_command()?;
    let mut reports = thread::scope(|scope| {
        let machines = scope.spawn(|| virtual_machines(&xtask));
        let mut reports = vec![
            Stage::check("fmt", lint::format()).run(),
            Stage::check("build", run::build_command()).run(),
            Stage::check(STATIC_BUILD, static_build).run(),
            Stage::check("clippy", lint::clippy()).run(),
            Stage::check("clippy (no features)", lint::lean()).run(),
            Stage::check("clippy (kernel programs)", kernel_clippy).run(),
            Stage::tests("unit tests", unit_tests(None)).run(),
            Stage::tests("fuzz", fuzz::stage(&xtask)).run(),
        ];
        // Compiled here, so that the scenarios find an idle machine; if it fails, they will say so.
        let mut compile = layout::cargo();
        compile.args(["test", "--quiet", "--package", "rstrace-tests", "--no-run"]);
        let _ = compile.stderr(std::process::Stdio::null()).status();
        let _ = scoreboard::build();
        match machines.join() {
            Ok(machines) => reports.extend(machines),
            Err(panic) => resume_unwind(panic),
        }
        reports
    });
    let built = reports.iter().any(|report| report.name == "build" && report.outcome.is_success());
    if built {
        reports.push(Stage::tests(SCENARIOS, scenarios(None)).run());
        reports.push(Stage::tests(SCOREBOARD, scoreboard::stage(&xtask)).within(SCOREBOARD_DEADLINE).run());
    } else {
        let why = "there is no build to test";
        reports.extend([SCENARIOS, SCOREBOARD].map(|name| Report::not_run(name, why)));
    }
    Ok(reports)
}

/// Someone who names a test waits for that test alone, so the scenarios are built only if one of them matches.
fn matching(filter: &str) -> Result<Vec<Report>> {
    let mut reports = vec![Stage::filtered("unit tests", unit_tests(Some(filter))).run()];
    let mut list = layout::cargo();
    list.args(["test", "--quiet", "--package", "rstrace-tests", "--", "--list", filter]);
    let listed = list.output().context("cannot run cargo")?;
    let names = String::from_utf8_lossy(&listed.stdout);
    // Where they do not even compile, running them says why.
    if listed.status.success() && libtest::listed(&names) == 0 {
        return Ok(reports);
    }
    // Some minutes the first time, so only for those that run it.
    if names.contains(OF_THE_IMAGE) {
        reports.push(Stage::check(STATIC_BUILD, image::build_command()?).run());
    }
    let build = Stage::check("build", run::build_command()).run();
    if build.outcome.is_success() {
        reports.push(Stage::filtered(SCENARIOS, scenarios(Some(filter))).run());
    } else {
        reports.push(build);
    }
    Ok(reports)
}

fn unit_tests(filter: Option<&str>) -> Command {
    let mut cargo = layout::cargo();
    cargo.args(["test", "--no-fail-fast", "--tests"]);
    for package in UNIT_PACKAGES {
        cargo.args(["--package", package]);
    }
    // The scenarios run what is built without asking for features; here all of them are compiled.
    cargo.args(["--features", layout::ALL_FEATURES]);
    // A test that is ignored proves nothing, so there is none that this leaves out.
    cargo.args(["--", "--include-ignored"]).args(filter);
    cargo
}

/// The scenarios make network namespaces and load programs: their executables, not cargo, run as root.
fn scenarios(filter: Option<&str>) -> Command {
    let rstrace = layout::rstrace();
    let mut cargo = layout::cargo();
    cargo.args(["test", "--no-fail-fast", "--package", "rstrace-tests"]).env("RSTRACE_BIN", &rstrace);
    if !privilege::is_root() {
        cargo.arg("--config").arg(root_runner(&rstrace));
    }
    cargo.args(["--", "--include-ignored"]).args(filter);
    cargo
}

/// Cargo's setting that puts sudo before a test's executable, for the one command that it is given to.
fn root_runner(rstrace: &Path) -> String {
    // A JSON string is a TOML string as well.
    let binary = serde_json::Value::from(format!("RSTRACE_BIN={}", rstrace.display()));
    format!(r#"target.'cfg(all())'.runner=["sudo","-n","env",{binary}]"#)
}

/// Boots every kernel; who is free takes the next.
fn virtual_machines(xtask: &Path) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let take = || Kernel::ALL.get(next.fetch_add(1, Ordering::Relaxed));
    let work =
        || std::iter::from_fn(take).map(|kernel| virtual_machine(xtask, *kernel).run()).collect::<Vec<_>>();
    thread::scope(|scope| {
        let workers = [(); MACHINES].map(|()| scope.spawn(work));
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

fn virtual_machine(xtask: &Path, kernel: Kernel) -> Stage {
    let kernel = kernel.name();
    let mut command = Command::new(xtask);
    command.args(["vm", "--kernel", kernel]).current_dir(layout::workspace());
    Stage::check(&format!("vm {kernel}"), command)
}

fn summarize(reports: &[Report]) -> Outcome {
    let mut total = Outcome::default();
    println!("\n{:<26} {:>7} {:>7} {:>9}", "", "passed", "failed", "time");
    for Report { name, outcome, elapsed, log } in reports {
        let (Outcome { passed, failed }, seconds) = (*outcome, elapsed.as_secs_f64());
        let remark = if failed > 0 { format!("  {}", log.display()) } else { String::new() };
        println!("{name:<26} {passed:>7} {failed:>7} {seconds:>7.1} s{remark}");
        total += *outcome;
    }
    if total == Outcome::default() {
        println!("no test has a name that contains this");
    }
    total
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::root_runner;

    #[test]
    fn a_path_with_a_space_stays_one_argument_of_sudo() {
        let setting = root_runner(Path::new("/a b/rstrace"));
        assert_eq!(setting, r#"target.'cfg(all())'.runner=["sudo","-n","env","RSTRACE_BIN=/a b/rstrace"]"#);
    }
}
