//! Verdicts as OpenTelemetry logs, sent to a collector by OTLP over HTTP (binary protobuf).
//!
//! One more reader of the hub: what its queue has no room for is left out and counted, and nothing ever waits for the
//! collector. The messages are `opentelemetry-proto`'s and the client is hyper's, which serves /metrics already. The
//! SDK's own exporter was not taken: it keeps to itself what it drops.

mod client;
mod export;
mod record;

use std::str::FromStr;

use axum::http::Uri;
use axum::http::uri::{Parts, PathAndQuery};

pub use export::{Exporter, SINK};

/// Where the protocol has logs, under the URL of a collector.
const PATH: &str = "/v1/logs";

/// The address of a collector's logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// Why a word is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("give the URL of a collector, such as http://127.0.0.1:4318")]
    NoUrl,
    #[error(
        "https is not spoken here: give a collector on this host or in this pod, such as http://127.0.0.1:4318"
    )]
    Tls,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// As OpenTelemetry's own variables have it: the URL of the collector, whose `/v1/logs` is meant.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::NoUrl)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(EndpointError::Tls),
            _ => return Err(EndpointError::NoUrl),
        }
        let named = uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
        if !named || uri.query().is_some() {
            return Err(EndpointError::NoUrl);
        }
        let base = uri.path().trim_end_matches('/');
        let base = base.strip_suffix(PATH).unwrap_or(base);
        let path: PathAndQuery = format!("{base}{PATH}").parse().map_err(|_| EndpointError::NoUrl)?;
        let mut parts: Parts = uri.into_parts();
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map(Self).map_err(|_| EndpointError::NoUrl)
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointError};

    #[test]
    fn the_url_of_a_collector_is_that_of_its_logs() {
        for (text, uri) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs"),
            ("http://collector/", "http://collector/v1/logs"),
            ("http://[::1]:4318/v1/logs", "http://[::1]:4318/v1/logs"),
            ("http://gate:80/otlp/", "http://gate:80/otlp/v1/logs"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().0.to_string(), uri);
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused_with_the_reason() {
        for text in
            ["", "127.0.0.1:4318", "ftp://a", "http://", "http://a b", "http://u:p@a", "http://a/?x=1"]
        {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::NoUrl), "{text}");
        }
        assert_eq!("https://collector:4318".parse::<Endpoint>(), Err(EndpointError::Tls));
    }
}
