//! What turns numbers and paths into names that an operator knows.
//!
//! It takes text apart; `gateways` and `kubernetes` also fetch it, on threads of their own, and `pods` reads names of
//! directories.

pub mod container;
pub mod endpoint;
pub mod gateways;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod pods;

use std::path::PathBuf;

use endpoint::Endpoint;
use pods::Pod;

use crate::event::Target;
use crate::table::Fill;

/// Where names come from.
#[derive(Debug)]
pub struct Sources {
    /// The kubelet's `/var/log/pods`.
    pub pod_logs: PathBuf,
    #[cfg(feature = "kubernetes")]
    pub kubernetes: Option<kubernetes::Kubernetes>,
}

impl Sources {
    /// The node's files alone.
    #[must_use]
    pub fn of_files(pod_logs: PathBuf) -> Self {
        Self {
            pod_logs,
            #[cfg(feature = "kubernetes")]
            kubernetes: None,
        }
    }

    /// Begins to ask, on a thread that has the rights which the caller has now.
    pub fn begin(&mut self) {
        #[cfg(feature = "kubernetes")]
        if let Some(kubernetes) = &mut self.kubernetes
            && let Err(error) = kubernetes.begin()
        {
            tracing::error!("upstreams have no names from Kubernetes: no thread for them: {error}");
        }
    }

    /// What an API server says of an address.
    #[must_use]
    pub fn endpoint(&self, target: &Target) -> Option<Endpoint> {
        #[cfg(feature = "kubernetes")]
        return self.kubernetes.as_ref()?.endpoint(target);
        #[cfg(not(feature = "kubernetes"))]
        {
            let _ = target;
            None
        }
    }

    /// Whether addresses of Services are known, behind which there are others.
    #[must_use]
    pub fn names_services(&self) -> bool {
        #[cfg(feature = "kubernetes")]
        return self.kubernetes.is_some();
        #[cfg(not(feature = "kubernetes"))]
        false
    }

    /// Answers that an API server failed to give; None where none is asked.
    #[must_use]
    pub fn failures(&self) -> Option<u64> {
        #[cfg(feature = "kubernetes")]
        return self.kubernetes.as_ref().map(kubernetes::Kubernetes::failures);
        #[cfg(not(feature = "kubernetes"))]
        None
    }

    /// Adds what an API server says of a pod of this node.
    pub fn complete(&self, pod: &mut Pod, container: &str) {
        #[cfg(feature = "kubernetes")]
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.complete(pod, container);
        }
        #[cfg(not(feature = "kubernetes"))]
        let _ = (pod, container);
    }

    /// How many names an API server has given; None where none is asked.
    #[must_use]
    pub fn fill(&self) -> Option<Fill> {
        #[cfg(feature = "kubernetes")]
        return self.kubernetes.as_ref().map(kubernetes::Kubernetes::fill);
        #[cfg(not(feature = "kubernetes"))]
        None
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self::of_files(pods::DEFAULT_LOGS.into())
    }
}
