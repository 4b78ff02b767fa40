//! LIST and WATCH, for as long as it takes: `kube` lists, follows, lists again when the server has forgotten (410), and
//! waits longer and longer while it does not answer.

use std::fmt::Debug;
use std::sync::Mutex;

use futures_util::{Stream, StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client};

use super::lock;
use super::objects::{Naming, SERVICE_LABEL};
use super::table::{Said, Table};
use crate::output::text::printable;

/// Objects in one answer: a slice may have 1,000 endpoints.
const PAGE: u32 = 100;

/// Keeps up with the API server, and never ends.
pub async fn watch(client: &Client, node: &str, table: &Mutex<Table>) {
    let paged = Config::default().page_size(PAGE);
    let slices = watcher(Api::<EndpointSlice>::all(client.clone()), paged.clone().labels(SERVICE_LABEL));
    let services = watcher(Api::<Service>::all(client.clone()), paged.clone());
    let own = paged.fields(&format!("spec.nodeName={node}"));
    let pods = watcher(Api::<Pod>::all(client.clone()), own);
    tokio::join!(
        follow("EndpointSlices", slices.default_backoff(), table),
        follow("Services", services.default_backoff(), table),
        follow("pods", pods.default_backoff(), table),
    );
}

async fn follow<K: Naming + Debug>(
    what: &str,
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    table: &Mutex<Table>,
) {
    pin_mut!(events);
    // A failure is said once, until the server answers again.
    let mut fails = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let is_listed = matches!(event, Event::InitDone);
                take(event, table);
                if fails && is_listed {
                    tracing::warn!("kubernetes: the API server answers again about {what}");
                    fails = false;
                }
            }
            Err(error) => {
                lock(table).failures += 1;
                if !fails && !is_expiry(&error) {
                    let error = chain(&error);
                    tracing::warn!(
                        "kubernetes: no news of {what}, what is known stays: {}",
                        printable(&error)
                    );
                    fails = true;
                }
            }
        }
    }
}

/// What a server does that has forgotten what happened since: it is asked for a new list.
fn is_expiry(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut text = String::new();
    for cause in causes.map(ToString::to_string) {
        // Many errors repeat their cause.
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

fn take<K: Naming>(event: Event<K>, table: &Mutex<Table>) {
    // Read before the lock is taken: the agent's loop asks meanwhile.
    let read = |object: &K| -> Option<(_, Said)> { Some((object.key()?, object.said())) };
    match event {
        Event::Init => lock(table).begin(K::KIND),
        Event::InitApply(object) | Event::Apply(object) => {
            if let Some((key, said)) = read(&object) {
                lock(table).put(&key, said);
            }
        }
        Event::Delete(object) => {
            if let Some(key) = object.key() {
                lock(table).remove(&key);
            }
        }
        Event::InitDone => lock(table).end(K::KIND),
    }
}
