//! Asks the kernel what the tables want to know, never more than a twentieth of the time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::auditing::Age;
use super::core::{Core, Input};
use super::host::Host;
use crate::event::Event;
use crate::kernel::Kernel;
use crate::table::Question;

/// Between two looks: several fit into the settle window, and questions that come together are asked together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(40);
/// A look over all files of a large host takes long; then the pause grows with it.
const SHARE: u32 = 20;

pub struct Asking {
    kernel: Arc<Mutex<Kernel>>,
    host: Arc<Host>,
    next: Instant,
}

impl Asking {
    pub fn new(kernel: Arc<Mutex<Kernel>>, host: Arc<Host>) -> Self {
        Self { kernel, host, next: Instant::now() }
    }

    /// When the questions of the tables, if there are any, may be asked.
    pub fn due(&self, core: &Core) -> Option<Instant> {
        core.has_questions().then_some(self.next)
    }

    /// The answers, if there were questions and it is time.
    pub fn ask(&mut self, core: &mut Core) -> Vec<Input> {
        let start = Instant::now();
        if start < self.next || !core.has_questions() {
            return Vec::new();
        }
        let questions = core.take_questions();
        let ports: Vec<_> = questions.iter().map(|q| (q.local_port, q.peer_port)).collect();
        let found = super::lock(&self.kernel).look(&ports);
        let mut inputs = Vec::new();
        if questions.iter().any(Question::is_about_a_queue) {
            self.host.look_at_namespaces(Age::Now);
            inputs.extend(self.host.take_drops().into_iter().map(Input::Drops));
        }
        self.next = Instant::now() + SHORTEST_PAUSE.max(start.elapsed() * SHARE);
        match found {
            Ok(sockets) => inputs.extend(sockets.into_iter().map(|s| Input::Event(Event::Existing(s)))),
            Err(error) => tracing::warn!("cannot look at the sockets of this host: {error}"),
        }
        inputs
    }
}
