//! A stand-in for an API server: it answers LIST and WATCH on three paths in the shapes of a real one, and nothing else.
//! What it cannot show: authentication, TLS, paging and the real server's own faults.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::get;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot};

/// What the server holds, and who watches.
#[derive(Debug)]
pub struct World {
    /// Objects by the last word of the path.
    pub objects: Mutex<HashMap<&'static str, Vec<Value>>>,
    /// The next watch of EndpointSlices is told that its version has expired.
    pub expired: Mutex<bool>,
    /// Lines of open watches of EndpointSlices; an empty one drops the connections.
    lines: broadcast::Sender<String>,
    pub lists: AtomicU64,
    /// Watches of EndpointSlices so far.
    pub watches: AtomicU64,
    pub queries: Mutex<Vec<String>>,
}

/// A server that runs; it ends with this, and its connections with it.
#[derive(Debug)]
pub struct StandIn {
    pub address: SocketAddr,
    pub world: Arc<World>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

// === impl World ===

impl World {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            expired: Mutex::default(),
            lines: broadcast::channel(64).0,
            lists: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            queries: Mutex::default(),
        })
    }

    pub fn set(&self, path: &'static str, objects: Vec<Value>) {
        self.objects.lock().unwrap().insert(path, objects);
    }

    /// Sends an event to whoever watches EndpointSlices.
    pub fn tell(&self, kind: &str, object: &Value) {
        let _ = self.lines.send(format!("{}\n", json!({"type": kind, "object": object})));
    }

    pub fn drop_connections(&self) {
        let _ = self.lines.send(String::new());
    }

    pub fn watches(&self) -> u64 {
        self.watches.load(Ordering::Relaxed)
    }
}

// === impl StandIn ===

impl StandIn {
    /// At an address; port 0 takes any.
    pub fn start(address: SocketAddr, world: Arc<World>) -> Self {
        let (end, ended) = oneshot::channel();
        let (told, bound) = std::sync::mpsc::channel();
        let served = Arc::clone(&world);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(address).await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let app = Router::new()
                    .route("/apis/discovery.k8s.io/v1/endpointslices", get(answer))
                    .route("/api/v1/services", get(answer))
                    .route("/api/v1/pods", get(answer))
                    .with_state(served);
                tokio::select! {
                    done = async { axum::serve(listener, app).await } => done.unwrap(),
                    _ = ended => {}
                }
            });
        });
        let address = bound.recv().unwrap();
        Self { address, world, end: Some(end), thread: Some(thread) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn answer(
    State(world): State<Arc<World>>,
    Query(query): Query<HashMap<String, String>>,
    uri: Uri,
) -> Response {
    world.queries.lock().unwrap().push(uri.to_string());
    let what = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    if !query.contains_key("watch") {
        world.lists.fetch_add(1, Ordering::Relaxed);
        let items = world.objects.lock().unwrap().get(what.as_str()).cloned().unwrap_or_default();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": items});
        return Response::new(Body::from(list.to_string()));
    }
    if what != "endpointslices" {
        return Response::new(Body::from_stream(stream::pending::<Result<String, Infallible>>()));
    }
    if std::mem::take(&mut *world.expired.lock().unwrap()) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version: 10 (2210)", "reason": "Expired", "code": 410});
        return Response::new(Body::from(format!("{}\n", json!({"type": "ERROR", "object": status}))));
    }
    let lines = world.lines.subscribe();
    world.watches.fetch_add(1, Ordering::Relaxed);
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await.ok()?;
        (!line.is_empty()).then_some((Ok::<_, Infallible>(line), lines))
    });
    Response::new(Body::from_stream(lines.boxed()))
}
