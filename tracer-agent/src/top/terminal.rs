//! The terminal while it shows the full screen, and how it gets its old state back.

use std::io::{self, BufWriter, Stdout, stdout};
use std::panic;
use std::sync::Once;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};

/// A frame is written at once.
const FRAME: usize = 64 * 1024;

/// A terminal in full-screen mode. Dropping it, a panic in any thread and [`FullScreen::suspend`] give it back.
pub struct FullScreen {
    pub terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl FullScreen {
    /// # Errors
    /// If standard output or the keyboard is no terminal.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| before_the_panic_is_told(leave));
        take().inspect_err(|_| leave())?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(FRAME, stdout())));
        Ok(Self { terminal: terminal.inspect_err(|_| leave())? })
    }

    /// Gives the terminal back, stops this process until it is continued, and takes the terminal again.
    ///
    /// # Errors
    /// If the terminal is gone by then.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        kill_process(getpid(), Signal::STOP)?;
        take()?;
        self.repaint()
    }

    /// Forgets what is on the screen, so that all of it is drawn next.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn repaint(&mut self) -> io::Result<()> {
        // `Terminal::clear` would ask the terminal for its cursor, and the answer goes to whoever reads the keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives back what can be without a word to the terminal, which may be stalled.
pub fn abandon() {
    let _ = disable_raw_mode();
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)
}

/// If the terminal is gone, there is nothing to give back.
fn leave() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// On the alternate screen nobody would read it.
fn before_the_panic_is_told(restore: impl Fn() + Send + Sync + 'static) {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore();
        tell(info);
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_panic_in_any_thread_restores_first_and_is_told_then() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let former = panic::take_hook();
        let log = |what: &'static str| {
            let order = Arc::clone(&order);
            move || {
                // Other tests may panic at the same time, for reasons of their own.
                if std::thread::current().name() == Some("to-panic") {
                    order.lock().unwrap().push(what);
                }
            }
        };
        let tell = log("told");
        panic::set_hook(Box::new(move |_| tell()));
        before_the_panic_is_told(log("restored"));
        let thread = std::thread::Builder::new().name("to-panic".to_owned());
        assert!(thread.spawn(|| panic!("as tested")).unwrap().join().is_err());
        panic::set_hook(former);
        assert_eq!(*order.lock().unwrap(), ["restored", "told"]);
    }
}
