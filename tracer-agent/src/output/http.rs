//! The HTTP endpoints: `/metrics`, `/healthz` (the agent still takes events from the kernel), `/readyz` (every
//! mandatory hook is attached).
//!
//! Serves figures only; verdicts, with their process names and addresses, go over the unix socket.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::metrics::Metrics;

/// Where an agent listens unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 19435);

/// Without a sign of the loop for so long, the agent is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

const INDEX: &str = "rstrace: /metrics /healthz /readyz\n";

/// What the loop that takes events tells the endpoints.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds after `started`.
    last_tick: AtomicU64,
    ready: AtomicBool,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve {what} on {address}: {error}{}; choose another address with {option}", remedy(.error))]
pub struct ListenError {
    what: &'static str,
    /// What names the address on the command line.
    option: &'static str,
    address: SocketAddr,
    error: io::Error,
}

/// What else there is to do about it.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ", since a port below 1024 needs CAP_NET_BIND_SERVICE: grant it, or choose a higher one"
        }
        _ => "",
    }
}

#[derive(Clone, Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

// === impl Health ===

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), last_tick: AtomicU64::new(0), ready: AtomicBool::new(false) }
    }
}

impl Health {
    /// To be called by the loop at least every few seconds, whether there are events or not.
    pub fn tick(&self) {
        self.last_tick.store(self.now(), Ordering::Relaxed);
    }

    /// Every mandatory hook is attached.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether the loop still takes events.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.silence() < STUCK_AFTER
    }

    /// How long ago the loop gave its last sign.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last_tick.load(Ordering::Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Takes the address, so that an occupied one is known before anything is loaded.
///
/// # Errors
/// If it is occupied or not this host's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind_for("/metrics", "--listen", address).await
}

/// The same for what else is served over HTTP.
pub(super) async fn bind_for(
    what: &'static str,
    option: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError { what, option, address, error })
}

/// Serves for as long as the process lives, on a thread of its own: reading and writing the figures of many upstreams
/// takes milliseconds, in which the loop has to take events. What it returns completes if that ends.
///
/// # Errors
/// If there can be no such thread, or the listener breaks.
pub fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) -> io::Result<impl Future<Output = io::Result<()>>> {
    serve_alone("http", listener, router(metrics, health))
}

/// Serves those routes on a thread of that name.
pub(super) fn serve_alone(
    thread_name: &str,
    listener: TcpListener,
    router: Router,
) -> io::Result<impl Future<Output = io::Result<()>> + use<>> {
    // It belongs to the runtime on which it was bound.
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
        let served = runtime.block_on(async { axum::serve(TcpListener::from_std(listener)?, router).await });
        // Nobody waits for it any more if the process ends.
        let _ = ended.send(served);
    })?;
    Ok(async { end.await.unwrap_or_else(|_| Err(io::Error::other("its thread has panicked"))) })
}

/// The routes alone.
pub fn router(metrics: Arc<Metrics>, health: Arc<Health>) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(exposition))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, health })
}

async fn exposition(State(shared): State<Shared>) -> Response {
    match shared.metrics.exposition() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let text = format!("cannot write the metrics: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    if shared.health.is_alive() {
        return "ok\n".into_response();
    }
    let silence = shared.health.silence().as_secs();
    let text = format!("stuck: no event was looked for in the last {silence} s\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn readyz(State(shared): State<Shared>) -> Response {
    if shared.health.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "starting: the kernel programs are not attached yet\n").into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    struct Agent {
        address: SocketAddr,
        health: Arc<Health>,
    }

    async fn start() -> Agent {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::default());
        drop(serve(listener, metrics, Arc::clone(&health)).unwrap());
        Agent { address, health }
    }

    impl Agent {
        async fn get(&self, path: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            let status = text.split(' ').nth(1).unwrap().parse().unwrap();
            (status, text)
        }
    }

    #[tokio::test]
    async fn the_endpoints_say_how_it_is() {
        let agent = start().await;
        assert_eq!(agent.get("/").await.0, 200);
        assert_eq!(agent.get("/readyz").await.0, 503);
        assert_eq!(agent.get("/healthz").await.0, 200);
        agent.health.set_ready();
        assert_eq!(agent.get("/readyz").await.0, 200);
        assert_eq!(agent.get("/nothing").await.0, 404);
        let (status, text) = agent.get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
        assert!(text.contains("\nrstrace_build_info{"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_without_a_sign_is_stuck() {
        let health = Health::default();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(health.is_alive());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!health.is_alive());
        health.tick();
        assert_eq!(health.silence(), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_occupied_port_is_named_with_the_flag_that_changes_it() {
        let agent = start().await;
        let error = bind(agent.address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot serve /metrics on {}: ", agent.address)), "{error}");
        assert!(error.ends_with("choose another address with --listen"), "{error}");
    }
}
