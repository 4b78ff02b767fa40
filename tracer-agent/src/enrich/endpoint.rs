//! What an API server says of an address that a gateway dials.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `NAMESPACE/NAME` of both; None is what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Up to three, with commas, where several have the address.
    pub service: Option<String>,
    pub pod: Option<String>,
    /// Where the connection was led to from there: the pod's own, behind that of a Service.
    #[serde(default)]
    pub address: Option<SocketAddr>,
}
