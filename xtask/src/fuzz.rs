//! `cargo xtask fuzz`: feeds what rstrace reads from elsewhere with what nobody meant to send. libFuzzer, by the
//! compiler's own coverage marks, which the stable compiler has as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{layout, setup};

/// In the order of `TARGETS` in tests/fuzz/src/lib.rs; a name that is not there ends the fuzzer with a line.
const TARGETS: [&str; 7] = ["records", "core", "btf", "cgroup", "socket", "recording", "filter"];
/// Marks each branch and each comparison, so that the engine sees what an input has reached.
const MARKS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=on -Coverflow-checks=on";
/// No input is that long: two dozen records.
const LONGEST: u32 = 8192;
/// Seconds for which one input may keep the target busy, and the memory that it may take. (Other checks run beside a short
/// run, and the seconds are those of the wall.)
const SLOWEST: u32 = 5;
const SLOWEST_BESIDE_OTHERS: u32 = 30;
const MOST_MB: u32 = 1024;
/// Inputs for each target in `xtask test`: some seconds, and the same inputs each time, so that a red run can be
/// run again.
const SHORT: u32 = 30_000;

/// Feed decoders, tables, BTF, recordings, filters and the socket with inputs made by libFuzzer
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// For so many seconds each
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// So many inputs each, always the same ones, and nothing from earlier runs
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u32>,
    /// Only this one; without it all, one after the other
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
}

/// Builds the fuzzer and runs it. What it finds is kept in `tests/fixtures/fuzz`, where the next `cargo test` finds it.
///
/// # Errors
/// When it cannot be built; what it finds is an exit code.
pub fn run(arguments: &FuzzArgs) -> Result<ExitCode> {
    setup::run(true)?;
    let program = build()?;
    let targets = TARGETS.iter().filter(|name| arguments.target.as_deref().is_none_or(|only| only == **name));
    let mut failed = Vec::new();
    let mut passed = 0;
    for target in targets {
        if feed(&program, target, arguments)? {
            passed += 1;
            println!("test fuzz {target} ... ok");
        } else {
            failed.push(*target);
            println!("test fuzz {target} ... FAILED");
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {} failed", failed.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything is compiled once more, with the marks, beside the ordinary build.
fn build() -> Result<PathBuf> {
    let folder = layout::workspace().join("target/fuzz");
    let triple = host_triple()?;
    let mut cargo = layout::cargo();
    // With a target named, build scripts and macros go without the marks.
    cargo
        .args(["build", "--quiet", "--release", "--package", "rstrace-fuzz", "--features", "engine"])
        .args(["--target", &triple])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", MARKS)
        // Compiled in a minute rather than run in the shortest time.
        .envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")]);
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("the fuzzer does not compile, see above");
    }
    Ok(folder.join(triple).join("release/fuzz"))
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// True if nothing was found.
fn feed(program: &Path, target: &str, arguments: &FuzzArgs) -> Result<bool> {
    let kept = layout::workspace().join("tests/fixtures/fuzz").join(target);
    let (grown, slowest, limits) = match arguments.runs {
        Some(runs) => {
            ("target/fuzz/short", SLOWEST_BESIDE_OTHERS, vec![format!("-runs={runs}"), "-seed=1".to_owned()])
        }
        None => ("target/fuzz/corpus", SLOWEST, vec![format!("-max_total_time={}", arguments.seconds)]),
    };
    let grown = layout::workspace().join(grown).join(target);
    if arguments.runs.is_some() && grown.exists() {
        fs::remove_dir_all(&grown).with_context(|| format!("cannot remove {}", grown.display()))?;
    }
    fs::create_dir_all(&grown).with_context(|| format!("cannot make {}", grown.display()))?;
    let status = Command::new(program)
        .env("RSTRACE_FUZZ_TARGET", target)
        .arg(&grown)
        .arg(&kept)
        .args(limits)
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={slowest}"))
        .arg(format!("-rss_limit_mb={MOST_MB}"))
        .arg(format!("-artifact_prefix={}/found-", kept.display()))
        .args(["-print_final_stats=1", "-verbosity=1"])
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.success())
}

/// The stage of `xtask test`: this program again, so that its words go to a log.
#[must_use]
pub fn stage(xtask: &Path) -> Command {
    let mut command = Command::new(xtask);
    command.args(["fuzz", "--runs", &SHORT.to_string()]).current_dir(layout::workspace());
    command
}
