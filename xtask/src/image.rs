//! `cargo xtask image`: the static program that the container image holds, and with `--tag` the image.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{layout, setup};

/// What can build an image, the first that is here.
const BUILDERS: [&str; 3] = ["buildah", "podman", "docker"];

/// Build the static program that the image holds, target/image/rstrace, and with --tag the image
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Also build the image with this name, with buildah, podman or docker
    #[arg(long, value_name = "NAME:TAG")]
    tag: Option<String>,
}

/// Builds what was asked for.
///
/// # Errors
/// When something cannot be set up or built; the tool has then said why.
pub fn run(arguments: &ImageArgs) -> Result<ExitCode> {
    setup::run(false)?;
    done(&mut build_command()?)?;
    let program = program()?;
    let folder = layout::workspace().join("target/image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let place = folder.join("rstrace");
    fs::copy(&program, &place)
        .with_context(|| format!("cannot copy {} to {}", program.display(), place.display()))?;
    if let Some(tag) = &arguments.tag {
        done(&mut image_command(tag)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Naming the target keeps the flag from what runs while building: a macro's library cannot be static.
///
/// # Errors
/// When the compiler does not say what it compiles for.
pub fn build_command() -> Result<Command> {
    let target = host()?;
    let mut cargo = layout::cargo();
    cargo.args(["build", "--release", "--package", "tracer-agent", "--bin", "rstrace", "--target", &target]);
    // What a node of a cluster may be asked for.
    cargo.args(["--features", layout::ALL_FEATURES]);
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace(['-', '.'], "_"));
    cargo.env(variable, "-C target-feature=+crt-static");
    Ok(cargo)
}

/// Where that puts it.
///
/// # Errors
/// When the compiler does not say what it compiles for.
pub fn program() -> Result<PathBuf> {
    Ok(layout::target().join(host()?).join("release/rstrace"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let version = String::from_utf8_lossy(&output.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

fn image_command(tag: &str) -> Result<Command> {
    let Some(builder) = BUILDERS.into_iter().find(|name| layout::find_program(name).is_some()) else {
        bail!("nothing here builds images: install one of {}", BUILDERS.join(", "));
    };
    let mut command = Command::new(builder);
    command.current_dir(layout::workspace());
    command.args(["build", "--file", "deploy/Dockerfile", "--build-context", "build=target/image"]);
    command.args(["--tag", tag, "."]);
    Ok(command)
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("the build failed, see above");
    }
    Ok(())
}
