//! A terminal with a program in it: what the program draws is kept as a screen, and keys can be typed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Guarded, poll};

/// A program on a terminal of its own, with the terminal as its controlling one.
pub struct Terminal {
    process: Guarded,
    ours: File,
    /// Kept open, so that its settings can be read when the program has ended.
    theirs: OwnedFd,
    drawn: Arc<Mutex<Drawn>>,
}

struct Drawn {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Starts the program.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program cannot be started.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Result<Self> {
        let (ours, theirs) = open(rows, columns)?;
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(&mut command, Stdio::from(theirs.try_clone()?));
        }
        command.env("TERM", "xterm-256color");
        // SAFETY: between fork and exec this calls setsid(2) and ioctl(2) alone, which are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        let process = Guarded::spawn(&mut command)?;
        // The command holds further copies.
        drop(command);
        let drawn = Drawn { screen: vt100::Parser::new(rows, columns, 0), bytes: Vec::new() };
        let drawn = Arc::new(Mutex::new(drawn));
        let store = Arc::clone(&drawn);
        let mut output = File::from(ours.try_clone()?);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                let mut drawn = store.lock().unwrap_or_else(PoisonError::into_inner);
                drawn.screen.process(&bytes[..n]);
                drawn.bytes.extend_from_slice(&bytes[..n]);
            }
        });
        Ok(Self { process, ours: File::from(ours), theirs, drawn })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.ours.write_all(keys.as_bytes()).context("type")
    }

    /// Takes no more output, as after Ctrl-S or behind a connection that hangs.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn stall(&self) -> Result<()> {
        // SAFETY: tcflow(3) takes a descriptor and a number.
        let done = unsafe { libc::tcflow(self.theirs.as_raw_fd(), libc::TCOOFF) };
        ensure!(done == 0, "tcflow: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// What is on the screen, a line for each row.
    pub fn text(&self) -> String {
        self.look(|drawn| drawn.screen.screen().contents())
    }

    /// Every byte that was drawn.
    pub fn bytes(&self) -> Vec<u8> {
        self.look(|drawn| drawn.bytes.clone())
    }

    /// Whether the screen is the one that full-screen programs use, and whether the cursor is hidden.
    pub fn is_taken(&self) -> (bool, bool) {
        self.look(|drawn| {
            let screen = drawn.screen.screen();
            (screen.alternate_screen(), screen.hide_cursor())
        })
    }

    /// Whether typed lines are edited and echoed, as for a shell.
    ///
    /// # Errors
    /// When the terminal does not say.
    pub fn is_cooked(&self) -> Result<bool> {
        // SAFETY: all zeroes is a valid termios, and tcgetattr(3) writes into it alone.
        let (done, settings) = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            (libc::tcgetattr(self.theirs.as_raw_fd(), &raw mut settings), settings)
        };
        ensure!(done == 0, "tcgetattr: {}", std::io::Error::last_os_error());
        let cooked = libc::ICANON | libc::ECHO | libc::ISIG;
        Ok(settings.c_lflag & cooked == cooked)
    }

    /// Waits until the screen is as wanted, and gives its text.
    ///
    /// # Errors
    /// When it is not in time; the error shows the screen.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let seen = poll(what, limit, || Some(self.text()).filter(|text| wanted(text)));
        seen.with_context(|| format!("the screen:\n{}", self.text()))
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }

    fn look<T>(&self, what: impl FnOnce(&Drawn) -> T) -> T {
        what(&self.drawn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Both ends of a new terminal of that size: ours, and the program's.
fn open(rows: u16, columns: u16) -> Result<(OwnedFd, OwnedFd)> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: openpty(3) writes the two descriptors and reads the size; the others may be null.
    let done = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    ensure!(done == 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and nobody else knows them.
    let ends = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for end in [&ends.0, &ends.1] {
        // SAFETY: sets a flag of a descriptor that we own. Children of other tests must not hold it.
        unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(ends)
}
