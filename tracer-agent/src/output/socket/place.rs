//! The place of the agent's socket in the file system, which one agent has at a time.
//!
//! A lock file beside the socket (`….lock`, its owner's alone) is held for as long as the agent lives: whoever has it
//! may remove what a killed agent left, and nobody else binds meanwhile. The kernel gives the lock back when the
//! process ends, however that is; the file itself goes with the agent, and one that was left behind is taken over.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

const BACKLOG: i32 = 64;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "an agent is running already and listens on {path}: watch it with `rstrace watch`, or choose another --socket"
    )]
    InUse { path: PathBuf },
    #[error("{path} exists and is no socket: remove it or choose another --socket")]
    NoSocket { path: PathBuf },
    #[error("cannot {action} {path}: {error}; choose another --socket")]
    Io { action: &'static str, path: PathBuf, error: io::Error },
}

/// A path that a socket is bound to. Dropping it removes the file.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    inode: u64,
    /// Given back after the socket's file is gone.
    _lock: Lock,
}

impl Place {
    /// Listens at `path`, in place of what a killed agent left there.
    ///
    /// # Errors
    /// If a live agent has it, or the file system refuses.
    pub fn take(path: &Path) -> Result<(UnixListener, Self), BindError> {
        let failed = |action| move |error| BindError::Io { action, path: path.to_owned(), error };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed("create the directory of"))?;
        }
        refuse_what_is_no_socket(path)?;
        let lock = Lock::take(path)?;
        make_way(path)?;
        let listener = bind_private(path).map_err(failed("listen on"))?;
        let inode = std::fs::metadata(path).map_err(failed("look at"))?.ino();
        Ok((listener, Self { path: path.to_owned(), inode, _lock: lock }))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Somebody may have put something else there.
        if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // If it cannot be removed, the next agent finds it stale and replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The lock beside a socket.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of the socket at `socket`; [`BindError::InUse`] if another process has it.
    fn take(socket: &Path) -> Result<Self, BindError> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |error: rustix::io::Errno| BindError::Io {
            action: "lock",
            path: path.clone(),
            error: error.into(),
        };
        loop {
            // Nobody but its owner can open it, so nobody else can keep the lock from an agent.
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(BindError::InUse { path: socket.to_owned() });
                }
                other => other.map_err(failed)?,
            }
            let file = File::from(file);
            // An agent that ended since has taken the file away: who comes next would lock another one.
            let ours = file.metadata().ok().as_ref().map(identity);
            if ours.is_some() && ours == std::fs::symlink_metadata(&path).ok().as_ref().map(identity) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so it is this one that goes. If it cannot be removed, the next agent takes it over.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Says so before anything is put beside it.
fn refuse_what_is_no_socket(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(BindError::NoSocket { path: path.to_owned() })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BindError::Io { action: "look at", path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Removes a socket that nobody listens on. A live one is that of a program which knows nothing of the lock.
fn make_way(path: &Path) -> Result<(), BindError> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| BindError::Io {
                action: "remove the stale socket",
                path: path.to_owned(),
                error,
            })
        }
        // A full backlog (EAGAIN) is a live agent too.
        _ => Err(BindError::InUse { path: path.to_owned() }),
    }
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound: it is private from the first moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// So many rounds that two that look at once are sure to meet.
    const ROUNDS: usize = 300;
    const AT_ONCE: usize = 8;

    #[test]
    fn of_many_that_start_at_once_on_a_stale_socket_one_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.sock");
        for round in 0..ROUNDS {
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(AT_ONCE);
            let taken: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    Place::take(&path)
                };
                let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let taken: Vec<_> = taken.into_iter().filter_map(Result::ok).collect();
            assert_eq!(taken.len(), 1, "round {round}");
            assert!(UnixStream::connect(&path).is_ok(), "round {round}: its socket was removed");
            drop(taken);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "round {round}");
        }
    }

    #[test]
    fn one_that_ends_takes_nothing_from_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.sock");
        for round in 0..ROUNDS {
            let old = Place::take(&path).unwrap();
            let next = std::thread::scope(|scope| {
                let next = scope.spawn(|| std::iter::repeat_with(|| Place::take(&path)).find_map(Result::ok));
                drop(old);
                next.join().unwrap()
            });
            assert!(UnixStream::connect(&path).is_ok(), "round {round}: its socket was removed");
            drop(next);
        }
    }
}
