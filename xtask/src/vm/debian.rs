//! Debian's kernel packages: finds the newest in a suite's index, fetches it, takes out the kernel.
//!
//! The index comes over TLS and is what the package's checksum is compared with. Indexes are kept
//! for a day and serve longer without a network; packages are kept under their checksum. Nothing
//! here installs a package or needs root.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

const MIRROR: &str = "https://deb.debian.org";
const INDEX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Where to look for a kernel.
#[derive(Debug)]
pub struct Source {
    pub archive: &'static str,
    pub suite: &'static str,
    /// A package without files of its own that depends on the newest kernel.
    pub package: &'static str,
}

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Image {
    pub version: String,
    pub file: PathBuf,
}

/// Gives the kernel that `source` leads to today.
///
/// # Errors
/// When it is neither in `cache` nor to be had, or is not what the index promises.
pub fn fetch(source: &Source, cache: &Path) -> Result<Image> {
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let kept = cache.join(format!("{}.packages", source.suite));
    let earlier = fs::read_to_string(&kept).ok();
    if let Some(index) = earlier.as_deref().filter(|_| is_fresh(&kept)) {
        return image(source, index, cache);
    }
    match (newest_image(source, &kept, cache), earlier) {
        (Err(error), Some(index)) => {
            eprintln!("vm: {error:#}: using the kernel of an earlier day");
            image(source, &index, cache)
        }
        (found, _) => found,
    }
}

/// The kernel of today's index, which takes the place of the earlier one only with its kernel: a mirror in the middle of
/// an update lists what it does not have yet.
fn newest_image(source: &Source, kept: &Path, cache: &Path) -> Result<Image> {
    let index = download_index(source, kept)?;
    let image = image(source, &index, cache)?;
    put(kept, index.as_bytes())?;
    Ok(image)
}

fn is_fresh(kept: &Path) -> bool {
    let age = fs::metadata(kept)
        .and_then(|meta| meta.modified())
        .map(|time| SystemTime::now().duration_since(time));
    matches!(age, Ok(Ok(age)) if age < INDEX_LIFETIME)
}

/// The kernel that an index leads to.
fn image(source: &Source, index: &str, cache: &Path) -> Result<Image> {
    let stanza = resolve(index, source.package)?;
    let deb = package(source, &stanza, cache)?;
    let file = deb.with_extension("vmlinuz");
    if !file.exists() {
        extract(&deb, &file)?;
    }
    Ok(Image { version: stanza.version.to_owned(), file })
}

/// The part of the suite's index that speaks of kernels for virtual machines.
fn download_index(source: &Source, kept: &Path) -> Result<String> {
    let url = format!("{MIRROR}/{}/dists/{}/main/binary-amd64/Packages.xz", source.archive, source.suite);
    let compressed = kept.with_extension("xz");
    download(&url, &compressed)?;
    let text = output(Command::new("xz").arg("--decompress").arg("--stdout").arg(&compressed))?;
    let text = String::from_utf8(text).with_context(|| format!("{url} is not UTF-8"))?;
    let kernels: Vec<&str> = text.split("\n\n").filter(|stanza| is_kernel(stanza)).collect();
    ensure!(!kernels.is_empty(), "{url} lists no kernel");
    fs::remove_file(&compressed).with_context(|| format!("remove {}", compressed.display()))?;
    Ok(kernels.join("\n\n"))
}

fn is_kernel(stanza: &str) -> bool {
    field(stanza, "Package").is_some_and(|name| {
        name.ends_with("cloud-amd64")
            && (name.starts_with("linux-image-") || name.starts_with("linux-binary-"))
    })
}

#[derive(Debug)]
struct Stanza<'a> {
    version: &'a str,
    path: &'a str,
    sha256: &'a str,
}

/// Follows the dependencies from `package` to the one that carries the kernel: the versioned
/// linux-image, or where Debian splits it further, the linux-binary behind that.
fn resolve<'a>(index: &'a str, package: &str) -> Result<Stanza<'a>> {
    let (mut name, mut version) = (package, None);
    loop {
        let stanza = newest(index, name, version)?;
        let depends = field(stanza, "Depends").unwrap_or_default();
        match next_step(depends) {
            Some(next) => (name, version) = next,
            None => {
                let need =
                    |key| field(stanza, key).with_context(|| format!("{name} has no {key} in the index"));
                return Ok(Stanza {
                    version: need("Version")?,
                    path: need("Filename")?,
                    sha256: need("SHA256")?,
                });
            }
        }
    }
}

/// The dependency that leads on, and the version that it demands.
fn next_step(depends: &str) -> Option<(&str, Option<&str>)> {
    let find = |prefix| depends.split(", ").find(|one| one.starts_with(prefix));
    let dependency = find("linux-binary-").or_else(|| find("linux-image-"))?;
    let (name, rest) = dependency.split_once(' ').unwrap_or((dependency, ""));
    Some((name, rest.strip_prefix("(= ").and_then(|rest| rest.strip_suffix(')'))))
}

fn newest<'a>(index: &'a str, name: &str, version: Option<&str>) -> Result<&'a str> {
    let mut best: Option<(&str, &str)> = None;
    for stanza in index.split("\n\n").filter(|stanza| field(stanza, "Package") == Some(name)) {
        let Some(found) = field(stanza, "Version") else { continue };
        let wanted = version.is_none_or(|version| version == found);
        if wanted && best.is_none_or(|(_, best)| is_newer(found, best)) {
            best = Some((stanza, found));
        }
    }
    let (stanza, _) =
        best.with_context(|| format!("the index does not list {name} {}", version.unwrap_or_default()))?;
    Ok(stanza)
}

fn is_newer(version: &str, than: &str) -> bool {
    let status = Command::new("dpkg").args(["--compare-versions", version, "gt", than]).status();
    status.is_ok_and(|status| status.success())
}

fn field<'a>(stanza: &'a str, key: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// The package's file, checked now whether or not it was already here.
fn package(source: &Source, stanza: &Stanza<'_>, cache: &Path) -> Result<PathBuf> {
    let deb = cache.join(format!("{}.deb", stanza.sha256));
    if deb.exists() && sha256(&deb)? == stanza.sha256 {
        return Ok(deb);
    }
    let url = format!("{MIRROR}/{}/{}", source.archive, stanza.path);
    eprintln!("vm: fetching {url}");
    let arriving = deb.with_extension("part");
    download(&url, &arriving)?;
    let found = sha256(&arriving)?;
    ensure!(found == stanza.sha256, "{url} has SHA256 {found}, the index says {}", stanza.sha256);
    // What an earlier file of this name held goes with it.
    let _ = fs::remove_file(deb.with_extension("vmlinuz"));
    fs::rename(&arriving, &deb).with_context(|| format!("rename to {}", deb.display()))?;
    Ok(deb)
}

/// Takes the kernel, and only it, out of the package: its modules are ten times as big.
fn extract(deb: &Path, file: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("run dpkg-deb (package dpkg)")?;
    let stream = unpack.stdout.take().context("dpkg-deb has no output")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--wildcards"]);
    tar.args(["./boot/vmlinuz-*", "./usr/lib/modules/*/vmlinuz"].map(OsStr::new));
    // One of the two patterns is not found, which tar calls a failure: what counts is what came out.
    let kernel = tar.stdin(stream).stderr(Stdio::null()).output().context("run tar")?.stdout;
    unpack.wait().context("wait for dpkg-deb")?;
    // The boot protocol's magic number, at a fixed place in every x86 kernel image.
    ensure!(kernel.get(0x202..0x206) == Some(b"HdrS"), "{} holds no bootable kernel", deb.display());
    put(file, &kernel)
}

fn download(url: &str, to: &Path) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--retry",
        "2",
        "--connect-timeout",
        "10",
    ]);
    output(curl.arg("--output").arg(to).arg(url)).with_context(|| format!("cannot fetch {url}"))?;
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let text = output(Command::new("sha256sum").arg(file))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Runs a program to its end and gives what it printed.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("run {program} (see xtask/src/vm/packages.txt)"))?;
    if !output.status.success() {
        // A program that tried again has said the same several times.
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, said.lines().last().unwrap_or(&program));
    }
    Ok(output.stdout)
}

/// Writes a file whole or not at all, so that an interrupted run leaves nothing to trust wrongly.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let arriving = file.with_extension("part");
    fs::write(&arriving, bytes).with_context(|| format!("write {}", arriving.display()))?;
    fs::rename(&arriving, file).with_context(|| format!("rename to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::{next_step, resolve};

    const SPLIT: &str = "Package: linux-image-cloud-amd64\nVersion: 7.2.13-1\n\
        Depends: linux-base-cloud-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n\n\
        Package: linux-image-7.2.13+deb14-cloud-amd64\nVersion: 7.2.13-1\n\
        Depends: dracut | initramfs-tools, linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n\n\
        Package: linux-binary-7.2.13+deb14-cloud-amd64\nVersion: 7.2.12-1\nFilename: old\nSHA256: 00\n\n\
        Package: linux-binary-7.2.13+deb14-cloud-amd64\nVersion: 7.2.13-1\nFilename: new\nSHA256: 01\n\
        Depends: linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n";

    #[test]
    fn a_kernel_split_in_packages_is_followed_to_the_one_with_the_image() {
        let stanza = resolve(SPLIT, "linux-image-cloud-amd64").unwrap();
        assert_eq!((stanza.version, stanza.path, stanza.sha256), ("7.2.13-1", "new", "01"));
    }

    #[test]
    fn the_package_that_depends_on_no_further_kernel_is_the_end() {
        assert_eq!(next_step("kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2)"), None);
    }

    #[test]
    fn a_missing_package_is_named() {
        let error = resolve(SPLIT, "linux-image-6.1-cloud-amd64").unwrap_err();
        assert!(error.to_string().contains("linux-image-6.1-cloud-amd64"), "{error}");
    }
}
