//! A stand-in for an API server of Kubernetes: it answers LIST, and WATCH with silence, on the three paths that the agent
//! asks. What it cannot show: authentication, TLS, paging, and the real server's own faults.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::get;
use futures_util::stream;
use serde_json::{Value, json};

use crate::netns::Namespace;
use crate::serving::Serving;

/// Objects by the last word of their path, such as `services`.
pub type Objects = HashMap<&'static str, Vec<Value>>;

/// Serves these objects at an address of a namespace.
///
/// # Errors
/// When it cannot listen there.
pub fn start(namespace: &Namespace, address: SocketAddr, objects: Objects) -> Result<Serving> {
    let router = Router::new()
        .route("/apis/discovery.k8s.io/v1/endpointslices", get(answer))
        .route("/api/v1/services", get(answer))
        .route("/api/v1/pods", get(answer))
        .with_state(Arc::new(objects));
    Serving::start(namespace.enter(|| TcpListener::bind(address))??, router)
}

async fn answer(
    State(objects): State<Arc<Objects>>,
    Query(query): Query<HashMap<String, String>>,
    uri: Uri,
) -> Response {
    if query.contains_key("watch") {
        return Response::new(Body::from_stream(stream::pending::<Result<String, Infallible>>()));
    }
    let what = uri.path().rsplit('/').next().unwrap_or_default();
    let items = objects.get(what).cloned().unwrap_or_default();
    let list =
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": items});
    Response::new(Body::from(list.to_string()))
}

/// Writes a kubeconfig for a server at an address, without TLS, and gives its path.
///
/// # Errors
/// When it cannot be written.
pub fn kubeconfig(folder: &Path, server: SocketAddr) -> Result<PathBuf> {
    let path = folder.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A Service with an address of its own.
#[must_use]
pub fn service(namespace: &str, name: &str, cluster: SocketAddr) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster.ip(), "clusterIPs": [cluster.ip()],
            "ports": [{"port": cluster.port(), "protocol": "TCP"}],
        },
    })
}

/// Where a Service's pods are: one slice of one port.
#[must_use]
pub fn slice(namespace: &str, service: &str, pod: &str, address: SocketAddr) -> Value {
    json!({
        "metadata": {
            "namespace": namespace, "name": format!("{service}-x7k2p"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "ports": [{"port": address.port(), "protocol": "TCP"}],
        "endpoints": [{
            "addresses": [address.ip()],
            "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod},
        }],
    })
}
