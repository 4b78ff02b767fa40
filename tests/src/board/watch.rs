//! The agent of the whole host, shared by all cases that play: its lines, by the network namespaces they are about.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::agent::Agent;
use crate::audit;
use crate::process::poll;

/// Both watchers answer the same questions.
pub trait Watch {
    /// The verdicts until now whose `netns` is one of `owns`.
    fn lines(&mut self, owns: &dyn Fn(u64) -> bool) -> Result<Vec<Value>>;

    /// What the agent logged.
    fn log(&self) -> String;

    /// Where it serves its metrics.
    fn listen(&self) -> SocketAddr;

    /// What the kernel counted in these namespaces, and the agent neither saw nor can explain. Only an agent can be asked:
    /// a `watch` that loads its own programs has no socket.
    fn gaps(&self, _owns: &dyn Fn(u64) -> bool) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The socket of an agent that can be asked for the past; None where there is none.
    fn socket(&self) -> Option<&Path> {
        None
    }
}

/// A handle to the shared agent.
#[derive(Debug, Clone)]
pub struct HostWatch {
    seen: Arc<Mutex<Seen>>,
    listen: SocketAddr,
    socket: PathBuf,
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<Value>,
    ended: Option<String>,
    log: String,
}

impl HostWatch {
    /// Starts the agent with every group of hooks, and the thread that reads its lines for as long as this process
    /// lives.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start() -> Result<Self> {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let store = Arc::clone(&seen);
        // The agent dies with the thread that has started it, so that thread has to stay.
        thread::spawn(move || {
            let mut agent = match Agent::start_with(&["--with", "all"]) {
                Ok(agent) => agent,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let _ = ready.send(Ok((agent.listen(), agent.socket())));
            loop {
                let read = agent.read_for(Duration::from_millis(20));
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                store.lines.extend(agent.seen().iter().map(|line| line.json.clone()));
                store.log = agent.stderr();
                agent.forget();
                if let Err(error) = read {
                    store.ended = Some(format!("{error:#}"));
                    return;
                }
            }
        });
        let (listen, socket) = is_ready.recv()??;
        Ok(Self { seen, listen, socket })
    }
}

impl Watch for HostWatch {
    fn lines(&mut self, owns: &dyn Fn(u64) -> bool) -> Result<Vec<Value>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &seen.ended {
            bail!("the agent ended: {why}");
        }
        Ok(verdicts(seen.lines.iter(), owns))
    }

    fn log(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).log.clone()
    }

    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn socket(&self) -> Option<&Path> {
        Some(&self.socket)
    }

    fn gaps(&self, owns: &dyn Fn(u64) -> bool) -> Result<Vec<String>> {
        audit::unexplained(&self.socket, owns)
    }
}

impl Watch for Agent {
    fn lines(&mut self, owns: &dyn Fn(u64) -> bool) -> Result<Vec<Value>> {
        self.read_for(Duration::ZERO)?;
        Ok(verdicts(self.seen().iter().map(|line| &line.json), owns))
    }

    fn log(&self) -> String {
        self.stderr()
    }

    fn listen(&self) -> SocketAddr {
        Agent::listen(self)
    }
}

fn verdicts<'a>(lines: impl Iterator<Item = &'a Value>, owns: &dyn Fn(u64) -> bool) -> Vec<Value> {
    let own = |line: &&Value| line["kind"] == "verdict" && line["netns"].as_u64().is_some_and(owns);
    lines.filter(own).cloned().collect()
}

/// Polls a watcher until `wanted` holds for one of its lines, and gives that line.
pub fn wait_for(
    watch: &mut dyn Watch,
    owns: &dyn Fn(u64) -> bool,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    poll(what, Duration::from_secs(20), || match watch.lines(owns) {
        Ok(lines) => lines.into_iter().find(&wanted).map(Ok),
        Err(error) => Some(Err(error)),
    })?
}
