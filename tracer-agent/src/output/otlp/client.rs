//! One request to the collector, and what its answer means.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;

use super::Endpoint;

/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of its answer that are read; it says little.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What became of a request.
#[derive(Debug)]
pub enum Sent {
    /// Taken, but for so many records.
    Taken { rejected: u64 },
    /// Not taken now; perhaps later, and not before so long.
    NotNow { why: String, after: Option<Duration> },
    /// Never to be taken.
    Refused { why: String },
}

/// Keeps one connection to the collector.
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Client {
    pub fn new(endpoint: Endpoint) -> Self {
        let pool = Pool::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build_http();
        Self { pool, endpoint }
    }

    /// Sends a request of the protocol, and says what became of it.
    pub async fn send(&self, body: Bytes) -> Sent {
        let request = Request::post(self.endpoint.0.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("rstrace/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Sent::Refused { why: error.to_string() },
        };
        match tokio::time::timeout(PATIENCE, self.answer(request)).await {
            Ok(sent) => sent,
            Err(_) => Sent::NotNow { why: format!("no answer within {PATIENCE:?}"), after: None },
        }
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Sent {
        let response = match self.pool.request(request).await {
            Ok(response) => response,
            Err(error) => return Sent::NotNow { why: reason(&error), after: None },
        };
        let status = response.status();
        let after = retry_after(response.headers());
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        if status.is_success() {
            let said = body.ok().and_then(|body| ExportLogsServiceResponse::decode(body.to_bytes()).ok());
            let partial = said.and_then(|said| said.partial_success);
            let rejected = partial.map_or(0, |p| u64::try_from(p.rejected_log_records).unwrap_or(0));
            return Sent::Taken { rejected };
        }
        let why = format!("it answered {status}");
        // Those of the specification; with others, the same request would be refused again.
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Sent::NotNow { why, after },
            _ => Sent::Refused { why },
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The client's own words are general; what lies beneath is the reason.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
