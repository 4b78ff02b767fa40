//! A real systemd, as process 1 of namespaces of its own, on a view of this machine whose changes are forgotten.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cgroup::NamedCgroup;
use crate::container::static_binary;
use crate::netns::Namespace;
use crate::process::{Ended, Gathered, Guarded, copy_program, poll, run_within};

const BOOT: Duration = Duration::from_secs(60);
/// What a machine is asked for ends by then.
const LIMIT: Duration = Duration::from_secs(300);

const STAGE: &str = r#"
set -eu
cd "$WORKSPACE"
mount -t tmpfs tmpfs target/image
cp "$STATIC" target/image/rstrace
"#;

/// Runs until it is dropped; everything in it is killed then.
#[derive(Debug)]
pub struct Machine {
    /// Its process 1, by the number that it has outside.
    init: u32,
    _unshare: Guarded,
    /// After its processes.
    _cgroup: NamedCgroup,
    _folder: tempfile::TempDir,
}

impl Machine {
    /// Boots in a network namespace.
    ///
    /// # Errors
    /// When there is no systemd, or it does not come up.
    pub fn boot(network: &Namespace) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/systemd/boot.sh");
        // Below a cgroup of its own: the root of a cgroup namespace is where it is made, and two that began in the same
        // place would remove each other's.
        let cgroup = NamedCgroup::unified()?;
        let mut command = network.command("sh")?;
        command.args(["-c", "echo 0 > \"$0\" && exec unshare \"$@\""]).arg(cgroup.processes());
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--cgroup", "sh"]);
        command.arg(script).arg(folder.path()).arg(workspace()?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut unshare = Guarded::spawn(&mut command)?;
        let said = Gathered::of(unshare.child().stderr.take().context("it is piped")?);
        let init = poll("process 1", BOOT, || only_child(unshare.pid()))?;
        // Before it has become systemd, its root is that of this machine, and so is whoever would answer.
        poll("systemd", BOOT, || {
            (fs::read_to_string(format!("/proc/{init}/comm")).ok()?.trim() == "systemd").then_some(())
        })
        .with_context(|| said.text())?;
        let machine = Self { init, _unshare: unshare, _cgroup: cgroup, _folder: folder };
        let up = poll("a running system", BOOT, || {
            let state = machine.run("systemctl", &["is-system-running"]).ok()?;
            // The other word that stays.
            let state = state.stdout.trim().to_owned();
            ["running", "degraded"].contains(&&*state).then_some(state)
        });
        let why = || format!("{}\n{}", said.text(), machine.what_fails());
        let state = up.with_context(why)?;
        ensure!(state == "running", "{state}: {}", why());
        Ok(machine)
    }

    /// What it waits for, what failed in it, and its last words.
    fn what_fails(&self) -> String {
        let questions: [&[&str]; 3] = [
            &["systemctl", "list-jobs", "--no-pager"],
            &["systemctl", "list-units", "--failed", "--no-pager"],
            &["journalctl", "--no-pager", "--lines", "60"],
        ];
        let answers = questions.map(|question| match self.run(question[0], &question[1..]) {
            Ok(ended) => format!("{question:?}\n{}{}", ended.stdout, ended.stderr),
            Err(error) => format!("{question:?}: {error:#}"),
        });
        answers.join("\n")
    }

    /// A command in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--ipc", "--uts", "--cgroup"]);
        command.args(["--net", "--root", "--wd"]).arg(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// What a command in it says.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Ended> {
        run_within(self.command(program).args(arguments), LIMIT)
    }

    /// The same, which has to succeed; gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn done(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let ended = self.run(program, arguments)?;
        ensure!(ended.code == Some(0), "{program} {arguments:?}: {ended:?}");
        Ok(ended.stdout)
    }

    /// Runs a script of bash in the workspace, whose `target/image/rstrace` is the program that `cargo xtask image` built.
    ///
    /// # Errors
    /// When there is no such program, or bash does not end.
    pub fn types(&self, script: &str) -> Result<Ended> {
        // Where something can be mounted there has to be a folder.
        fs::create_dir_all(workspace()?.join("target/image"))?;
        let mut shell = self.command("bash");
        shell.args(["-o", "pipefail", "-c", &format!("{STAGE}{script}")]);
        shell.env("STATIC", static_binary()?.canonicalize()?).env("WORKSPACE", workspace()?);
        run_within(&mut shell, LIMIT)
    }

    /// Writes a file in it, whose folder is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Copies a program of this machine into it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn install(&self, program: &Path, to: &str) -> Result<()> {
        copy_program(program, &self.path(to))
    }

    /// A property of a unit, such as `MainPID`.
    ///
    /// # Errors
    /// When systemd does not tell.
    pub fn property(&self, unit: &str, property: &str) -> Result<String> {
        Ok(self.done("systemctl", &["show", "--value", "--property", property, unit])?.trim().to_owned())
    }

    /// Where its file system is seen from outside.
    fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }
}

/// The folder that is seen in it as it is.
///
/// # Errors
/// When there is none.
pub fn workspace() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context("the workspace")
}

fn only_child(pid: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.trim().parse().ok()
}
