//! The emulator that the virtual machines run in: the system's own, or Debian's package unpacked into this
//! checkout.
//!
//! It is not installed, since it may not be installable: the qemu packages of different archives exclude each
//! other, and a machine with `qemu-utils` from backports would lose them to a `qemu-system-x86` from stable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::layout;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// What apt believes to be installed.
const STATUS: &str = "/var/lib/dpkg/status";

/// The emulator, to be given its arguments.
pub fn command() -> Command {
    if layout::find_program(PROGRAM).is_some() {
        return Command::new(PROGRAM);
    }
    let root = unpacked();
    let mut qemu = Command::new(program(&root));
    // Debian 12 still has some libraries in /lib; other releases have them in /usr/lib.
    let (root_name, arch) = (root.display(), std::env::consts::ARCH);
    let libraries = format!("{root_name}/usr/lib/{arch}-linux-gnu:{root_name}/lib/{arch}-linux-gnu");
    qemu.env("LD_LIBRARY_PATH", libraries);
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        qemu.arg("-L").arg(root.join(data));
    }
    qemu
}

/// Makes sure that [`command`] finds an emulator.
///
/// # Errors
/// When there is none and the archives cannot give it.
pub fn ensure() -> Result<()> {
    let root = unpacked();
    if layout::find_program(PROGRAM).is_some() || program(&root).is_file() {
        return Ok(());
    }
    if layout::find_program("apt-get").is_none() {
        bail!("the tests need {PROGRAM}: install it with this system's package manager");
    }
    let arriving = root.with_extension("part");
    // What an interrupted run left, if one was.
    let _ = fs::remove_dir_all(&arriving);
    fs::create_dir_all(&arriving).with_context(|| format!("create {}", arriving.display()))?;
    let status = arriving.join("status");
    let packages = needed(&status)?;
    eprintln!("setup: unpacking {PACKAGE} and {} packages that it needs", packages.len().saturating_sub(1));
    output(Command::new("apt-get").args(["download", "-qq"]).args(&packages).current_dir(&arriving))?;
    unpack(&arriving)?;
    fs::remove_file(&status).with_context(|| format!("remove {}", status.display()))?;
    fs::rename(&arriving, &root).with_context(|| format!("rename to {}", root.display()))
}

fn unpacked() -> PathBuf {
    layout::tools().join("qemu")
}

fn program(root: &Path) -> PathBuf {
    root.join("usr/bin").join(PROGRAM)
}

/// The packages that apt would install for the emulator if no other part of qemu were here.
/// `status` is where the list that says so is written.
fn needed(status: &Path) -> Result<Vec<String>> {
    let installed = fs::read_to_string(STATUS).with_context(|| format!("read {STATUS}"))?;
    fs::write(status, without_qemu(&installed)).with_context(|| format!("write {}", status.display()))?;
    let mut apt = Command::new("apt-get");
    apt.arg("-o").arg(format!("Dir::State::status={}", status.display()));
    apt.args(["--simulate", "--no-install-recommends", "install", PACKAGE]);
    Ok(installs(&String::from_utf8_lossy(&output(&mut apt)?)))
}

fn without_qemu(status: &str) -> String {
    let stanzas = status.split("\n\n").filter(|stanza| !stanza.starts_with("Package: qemu-"));
    stanzas.collect::<Vec<_>>().join("\n\n")
}

fn installs(simulated: &str) -> Vec<String> {
    let lines = simulated.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Replaces the packages in `folder` by what is in them.
fn unpack(folder: &Path) -> Result<()> {
    let files = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for file in files {
        let file = file.with_context(|| format!("read {}", folder.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder))?;
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
    }
    Ok(())
}

/// Runs a program to its end and gives what it printed.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "no {PROGRAM} can be had: {command:?}: {}",
            said.lines().last().unwrap_or("it does not say why")
        );
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::{installs, without_qemu};

    #[test]
    fn only_what_is_part_of_qemu_is_thought_away() {
        let status = "Package: bash\nStatus: a\n\nPackage: qemu-utils\nStatus: b\n\nPackage: zsh\n";
        assert_eq!(without_qemu(status), "Package: bash\nStatus: a\n\nPackage: zsh\n");
    }

    #[test]
    fn what_apt_would_install_is_fetched() {
        let simulated = "Reading package lists...\nInst seabios (1.16 Debian [all])\nConf seabios (1.16)\n";
        assert_eq!(installs(simulated), ["seabios"]);
    }
}
