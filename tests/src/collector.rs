//! A receiver of OpenTelemetry logs by HTTP, as a collector is one: axum, and the protocol's own messages. What it is
//! told to refuse it refuses; everything else it keeps.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use crate::serving::Serving;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use serde_json::{Map, Value};

/// A running receiver.
#[derive(Debug)]
pub struct Collector {
    serving: Serving,
    seen: Arc<Mutex<Seen>>,
}

/// What came.
#[derive(Debug, Default)]
struct Seen {
    to_refuse: usize,
    refused: usize,
    requests: Vec<ExportLogsServiceRequest>,
}

impl Collector {
    /// Answers so many requests with 503, and all others with 200.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(to_refuse: usize) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen { to_refuse, ..Seen::default() }));
        let router = Router::new().route("/v1/logs", post(receive)).with_state(Arc::clone(&seen));
        Ok(Self { serving: Serving::start(TcpListener::bind("127.0.0.1:0")?, router)?, seen })
    }

    /// What `--otlp` takes.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// How many requests it has refused.
    pub fn refused(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// Every record until now, with its resource's attributes.
    ///
    /// # Errors
    /// When one is not what a record of the protocol must be.
    pub fn records(&self) -> Result<Vec<Record>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        for logs in seen.requests.iter().flat_map(|request| &request.resource_logs) {
            let resource = logs.resource.as_ref().context("a request without a resource")?;
            for record in logs.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                let mut attributes = Map::new();
                for pair in resource.attributes.iter().chain(&record.attributes) {
                    let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
                    attributes.insert(pair.key.clone(), json(value.context("an attribute without a value")?));
                }
                records.push(Record { record: record.clone(), attributes: Value::Object(attributes) });
            }
        }
        Ok(records)
    }
}

/// A log record.
#[derive(Debug, Clone)]
pub struct Record {
    pub record: LogRecord,
    /// Its own and its resource's.
    pub attributes: Value,
}

async fn receive(
    State(seen): State<Arc<Mutex<Seen>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let request = ExportLogsServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.to_refuse > 0 {
        seen.to_refuse -= 1;
        seen.refused += 1;
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    seen.requests.push(request);
    Ok(ExportLogsServiceResponse::default().encode_to_vec())
}

fn json(value: &Any) -> Value {
    match value {
        Any::StringValue(text) => text.as_str().into(),
        Any::IntValue(number) => (*number).into(),
        Any::DoubleValue(number) => (*number).into(),
        Any::BoolValue(yes) => (*yes).into(),
        Any::ArrayValue(list) => {
            list.values.iter().filter_map(|value| value.value.as_ref()).map(json).collect()
        }
        _ => Value::Null,
    }
}
