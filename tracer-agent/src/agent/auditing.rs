//! Looks at what the kernel counts itself: now and then, when somebody asks, and never for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::{Ledger, Present, Reading, Report};
use crate::event::QueueDrops;
use crate::kernel::{self, Kernel, LookError, Namespace, clock};

/// Namespaces whose counters are read in one look: some milliseconds. On a larger host they take turns.
const AT_ONCE: usize = 64;
/// Readings that follow at once where the first of a namespace was no beginning.
const TRIES: usize = 5;
/// The pause after a look is at least so many times as long as the look.
const SHARE: u32 = 100;

/// How fresh a look has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// For whoever scrapes.
    Second,
    /// For whoever asks and waits for the answer.
    Now,
}

/// Reads the counters of both sides and keeps the ledger.
pub struct Auditing {
    kernel: Arc<Mutex<Kernel>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// End of the last look, and how long it took.
    last: Option<(Instant, Duration)>,
}

// === impl Auditing ===

impl Auditing {
    /// With a first look at all namespaces that there are: from now on they are compared.
    #[must_use]
    pub fn new(kernel: Arc<Mutex<Kernel>>) -> Self {
        let auditing = Self { kernel, state: Mutex::default() };
        auditing.look_at(usize::MAX);
        auditing
    }

    /// Looks at some of them, if the last look is older than it may be.
    pub fn look(&self, age: Age) {
        let is_due = self.state().last.is_none_or(|(end, took)| {
            let pause = match age {
                Age::Second => Duration::from_secs(1).max(took * SHARE),
                Age::Now => took,
            };
            end.elapsed() >= pause
        });
        if is_due {
            self.look_at(AT_ONCE);
        }
    }

    #[must_use]
    pub fn report(&self) -> Report {
        let sight = super::lock(&self.kernel).sight();
        self.state().ledger.report(&sight)
    }

    /// Handshakes that were dropped since the last call, as far as the looks have told.
    pub fn take_drops(&self) -> Vec<QueueDrops> {
        self.state().ledger.take_drops()
    }

    fn look_at(&self, limit: usize) {
        let start = Instant::now();
        let mut state = self.state();
        let mut kernel = super::lock(&self.kernel);
        // A look that fails is said, and ends nothing.
        if let Err(error) = compare(&mut kernel, &mut state.ledger, limit) {
            tracing::warn!("cannot look at the network namespaces of this host: {error}");
        }
        state.last = Some((Instant::now(), start.elapsed()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compare(kernel: &mut Kernel, ledger: &mut Ledger, limit: usize) -> Result<(), LookError> {
    let sight = kernel.sight();
    let found: HashMap<u64, Namespace> = kernel.namespaces()?.into_iter().map(|n| (n.cookie, n)).collect();
    let present: Vec<_> = found.values().map(present).collect();
    for cookie in ledger.meet(&present, &sight).into_iter().take(limit) {
        for _ in 0..TRIES {
            let Some(reading) = read(kernel, &found[&cookie])? else { break };
            if !ledger.take(cookie, &reading, clock::monotonic_ns(), &sight) {
                break;
            }
        }
    }
    Ok(())
}

/// None if no thread is in it any more.
fn read(kernel: &Kernel, namespace: &Namespace) -> Result<Option<Reading>, LookError> {
    let Some(before) = kernel.seen_in(namespace.cookie)? else { return Ok(None) };
    let Some(counted) = kernel::counted_by_kernel(namespace) else { return Ok(None) };
    let Some(after) = kernel.seen_in(namespace.cookie)? else { return Ok(None) };
    Ok(Some(Reading { before, kernel: counted, after }))
}

fn present(namespace: &Namespace) -> Present {
    let Namespace { cookie, inum, tid, seen } = *namespace;
    Present { cookie, netns: inum, has_thread: tid.is_some(), seen }
}
