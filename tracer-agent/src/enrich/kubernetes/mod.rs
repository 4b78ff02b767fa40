//! The names that an API server has for addresses and containers: a watch on EndpointSlices, Services and this node's
//! pods.
//!
//! It runs on a thread of its own, and nothing waits for it: whoever asks gets what is known. While no API server
//! answers, what was known stays. `table` remembers, `objects` reads what the server sent, `watching` fetches it.

mod objects;
#[cfg(test)]
mod stand_in;
mod table;
#[cfg(test)]
mod tests;
mod watching;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Config;
use kube::config::InferConfigError;
use tokio::sync::oneshot;

use super::endpoint::Endpoint;
use super::pods::Pod;
use crate::event::Target;
use crate::table::Fill;
use table::Table;

/// Answers what is known, and lets the thread watch. It ends with this.
#[derive(Debug)]
pub struct Kubernetes {
    table: Arc<Mutex<Table>>,
    /// Until it begins.
    work: Option<Work>,
    _end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Work {
    config: Config,
    node: String,
    ended: oneshot::Receiver<()>,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
#[error(
    "--kubernetes finds no API server: run in a pod with a service account, or name a kubeconfig in KUBECONFIG: {0}"
)]
pub struct NoServer(#[source] Box<InferConfigError>);

// === impl Kubernetes ===

impl Kubernetes {
    /// Will watch the API server that KUBECONFIG names, or else that of this pod's cluster; `node` is the name of this
    /// node there. That it answers is not waited for.
    ///
    /// # Errors
    /// If no server is named.
    pub async fn prepare(node: &str) -> Result<Self, NoServer> {
        let config = Config::infer().await.map_err(|error| NoServer(Box::new(error)))?;
        Ok(Self::of(config, node))
    }

    fn of(config: Config, node: &str) -> Self {
        let (end, ended) = oneshot::channel::<()>();
        let work = Work { config, node: node.to_owned(), ended };
        Self { table: Arc::default(), work: Some(work), _end: end }
    }

    /// Starts the thread. It has the rights that the caller has now, so that comes after those are given up.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn begin(&mut self) -> io::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let table = Arc::clone(&self.table);
        std::thread::Builder::new().name("kubernetes".to_owned()).spawn(move || {
            if let Err(error) = work.run(&table) {
                tracing::error!("upstreams have no names from Kubernetes: {error:#}");
            }
        })?;
        Ok(())
    }

    /// The Service and the pod of an address.
    #[must_use]
    pub fn endpoint(&self, target: &Target) -> Option<Endpoint> {
        match target {
            Target::Tcp(address) => lock(&self.table).find(*address),
            Target::Unix(_) | Target::Dns(_) => None,
        }
    }

    /// Adds what the API server knows of a pod of this node; `container` is an id.
    pub fn complete(&self, pod: &mut Pod, container: &str) {
        lock(&self.table).complete(pod, container);
    }

    /// Names that are known.
    #[must_use]
    pub fn fill(&self) -> Fill {
        lock(&self.table).fill()
    }

    /// Answers that the API server failed to give.
    #[must_use]
    pub fn failures(&self) -> u64 {
        lock(&self.table).failures
    }
}

impl Work {
    fn run(self, table: &Mutex<Table>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = kube::Client::try_from(self.config)?;
            tokio::select! {
                () = watching::watch(&client, &self.node, table) => {}
                _ = self.ended => {}
            }
            Ok(())
        })
    }
}

/// A panic while the lock was held leaves what was known.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
