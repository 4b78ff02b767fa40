//! Tells the service manager that started the agent (systemd, by `NOTIFY_SOCKET`) how it is: that everything is
//! attached and served, that the loop still takes events (`WatchdogSec=`), and that it ends.
//!
//! It has a thread of its own: a manager that does not read its socket must not hold up the ring.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;

use super::http::Health;

/// How long the word that it ends may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The thread that speaks with the service manager.
#[derive(Debug)]
pub struct Manager {
    stop: Sender<()>,
    said: oneshot::Receiver<()>,
}

// === impl Manager ===

impl Manager {
    /// Says that the agent is ready and, where the manager asks for it, twice in each of its intervals that the loop
    /// still gives signs of life. `None` where no manager wants to know.
    ///
    /// # Errors
    /// If there can be no such thread.
    pub fn tell(health: Arc<Health>, status: String) -> io::Result<Option<Self>> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(None);
        }
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let (stop, stopped) = mpsc::channel();
        let (saying, said) = oneshot::channel();
        thread::Builder::new().name("systemd".to_owned()).spawn(move || {
            speak(&status, every, || health.is_alive(), &stopped, say);
            // Nobody waits for it any more if that took too long.
            let _ = saying.send(());
        })?;
        Ok(Some(Self { stop, said }))
    }

    /// Says that the agent ends.
    pub async fn stopping(self) {
        drop(self.stop);
        let _ = tokio::time::timeout(LAST_WORD, self.said).await;
    }
}

/// What is said until there is nobody left who could stop it.
fn speak(
    status: &str,
    every: Option<Duration>,
    alive: impl Fn() -> bool,
    stopped: &Receiver<()>,
    mut say: impl FnMut(&[NotifyState<'_>]),
) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
    if let Some(every) = every {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            if alive() {
                say(&[NotifyState::Watchdog]);
            }
        }
    } else {
        // It is never sent anything; that the other end is gone is the sign.
        let _ = stopped.recv();
    }
    say(&[NotifyState::Stopping]);
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!("cannot tell the service manager (NOTIFY_SOCKET) how the agent is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn the_watchdog_is_fed_only_while_the_loop_lives() {
        let (stop, stopped) = mpsc::channel();
        let stop = RefCell::new(Some(stop));
        let asked = Cell::new(0);
        let alive = || {
            asked.set(asked.get() + 1);
            if asked.get() == 5 {
                stop.take();
            }
            // Stuck at its second and third look.
            !(2..=3).contains(&asked.get())
        };
        let mut said = Vec::new();
        let say = |what: &[NotifyState<'_>]| {
            said.push((asked.get(), what.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")));
        };
        speak("well", Some(Duration::from_millis(1)), alive, &stopped, say);
        let said: Vec<_> = said.iter().map(|(asked, what)| (*asked, what.as_str())).collect();
        assert_eq!(
            said,
            [
                (0, "READY=1 STATUS=well"),
                (1, "WATCHDOG=1"),
                (4, "WATCHDOG=1"),
                (5, "WATCHDOG=1"),
                (5, "STOPPING=1")
            ]
        );
    }

    #[test]
    fn without_a_watchdog_it_says_the_beginning_and_the_end() {
        let (stop, stopped) = mpsc::channel();
        drop(stop);
        let mut said = Vec::new();
        let never = || unreachable!("nobody asked whether it lives");
        speak("", None, never, &stopped, |what| said.push(what.len()));
        assert_eq!(said, [2, 1]);
    }
}
