//! Envoy: the hosts of its clusters, as its admin endpoint tells them, since most come over the network and stand in
//! no file. The file says where that endpoint is.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::registration::{Address, Proxy, Registration, Server, State};

/// The address of the admin endpoint in a configuration, which is YAML or JSON. Only the section `admin` is looked at,
/// and only for its `address` and `port_value`.
#[must_use]
pub fn admin_address(text: &str) -> Option<SocketAddr> {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        let socket = json.pointer("/admin/address/socket_address")?;
        let port = socket.get("port_value")?.as_u64().and_then(|port| u16::try_from(port).ok())?;
        return reachable(socket.get("address")?.as_str()?, port);
    }
    let mut section = text.lines().skip_while(|line| !line.starts_with("admin:"));
    let first = section.next()?.strip_prefix("admin:")?;
    let inner = section.take_while(|line| line.trim().is_empty() || line.starts_with([' ', '#']));
    let (mut address, mut port) = (None, None);
    for line in std::iter::once(first).chain(inner) {
        let line = line.split(" #").next().unwrap_or_default();
        for part in line.split(['{', '}', ',']) {
            let Some((key, value)) = part.split_once(": ") else { continue };
            let value = value.trim().trim_matches(['"', '\'']);
            match key.trim().trim_matches(['"', '\'']) {
                "address" if !value.is_empty() => address = address.or(Some(value)),
                "port_value" => port = port.or(value.parse().ok()),
                _ => {}
            }
        }
    }
    reachable(address?, port?)
}

/// Where it is to be reached from this host: what is bound to every address is on loopback too.
fn reachable(address: &str, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = address.parse().ok()?;
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, port))
}

/// The hosts in the answer to `/clusters?format=json`; `from` is the endpoint.
///
/// # Errors
/// If it is no such answer.
pub fn parse(json: &[u8], from: &str) -> Result<Vec<Server>, serde_json::Error> {
    let clusters: Clusters = serde_json::from_slice(json)?;
    let mut servers = Vec::new();
    for cluster in clusters.cluster_statuses {
        for host in cluster.host_statuses {
            let Some(address) = host.address.as_ref().and_then(HostAddress::parse) else { continue };
            let state = if host.health_status.is_well() { State::Active } else { State::Down };
            let registration = Registration {
                gateway: Proxy::Envoy,
                name: Some(cluster.name.clone()),
                weight: host.weight,
                state,
                file: from.to_owned(),
                line: None,
            };
            servers.push(Server { address, registration });
        }
    }
    Ok(servers)
}

// Of envoy/admin/v3/clusters.proto, in the JSON of protobuf: what is false, 0 or empty is left out.

#[derive(Deserialize)]
struct Clusters {
    #[serde(default)]
    cluster_statuses: Vec<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    name: String,
    #[serde(default)]
    host_statuses: Vec<Host>,
}

#[derive(Deserialize)]
struct Host {
    address: Option<HostAddress>,
    weight: Option<u32>,
    #[serde(default)]
    health_status: Health,
}

#[derive(Deserialize)]
struct HostAddress {
    socket_address: Option<SocketAddress>,
    pipe: Option<Pipe>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    port_value: Option<u16>,
}

#[derive(Deserialize)]
struct Pipe {
    path: String,
}

#[derive(Default, Deserialize)]
struct Health {
    #[serde(default)]
    failed_active_health_check: bool,
    #[serde(default)]
    failed_outlier_check: bool,
    eds_health_status: Option<String>,
}

impl Health {
    fn is_well(&self) -> bool {
        let well =
            matches!(self.eds_health_status.as_deref(), None | Some("UNKNOWN" | "HEALTHY" | "DEGRADED"));
        well && !self.failed_active_health_check && !self.failed_outlier_check
    }
}

impl HostAddress {
    fn parse(&self) -> Option<Address> {
        if let Some(pipe) = &self.pipe {
            return Some(Address::Unix(pipe.path.clone()));
        }
        let SocketAddress { address, port_value } = self.socket_address.as_ref()?;
        Address::parse(address, *port_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"
static_resources:
  clusters:
  - name: api
    load_assignment: { endpoints: [ { address: 10.9.9.9, port_value: 1 } ] }
admin:
  access_log_path: /dev/null   # none
  address:
    socket_address:
      address: 0.0.0.0
      port_value: 9901
layered_runtime: {}
"#;

    #[test]
    fn the_admin_endpoint_is_found_in_yaml_and_json() {
        let expected = "127.0.0.1:9901".parse().ok();
        assert_eq!(admin_address(YAML), expected);
        let flow =
            "admin: { address: { socket_address: { address: \"127.0.0.1\", port_value: 9901 } } }\nx: 1\n";
        assert_eq!(admin_address(flow), expected);
        let json = r#"{"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9901}}}}"#;
        assert_eq!(admin_address(json), expected);
    }

    #[test]
    fn without_one_there_is_none() {
        for text in ["", "static_resources: {}\n", "admin:\n  x: y\naddress: 1.2.3.4\nport_value: 1\n", "{}"]
        {
            assert_eq!(admin_address(text), None, "{text}");
        }
        assert_eq!(admin_address("admin: { address: { pipe: { path: /run/admin.sock } } }\n"), None);
    }

    #[test]
    fn hosts_have_their_cluster_weight_and_health() {
        // The shape of envoy/admin/v3/clusters.proto; written by hand, since no Envoy runs where these tests do.
        let json = br#"{"cluster_statuses":[{"name":"api","added_via_api":true,"host_statuses":[
            {"address":{"socket_address":{"address":"10.0.3.7","port_value":9000}},"stats":[{"name":"cx_active"}],
             "health_status":{"eds_health_status":"HEALTHY"},"weight":3,"locality":{}},
            {"address":{"socket_address":{"address":"10.0.3.8","port_value":9000}},
             "health_status":{"failed_active_health_check":true,"eds_health_status":"HEALTHY"},"weight":1},
            {"address":{"pipe":{"path":"/run/app.sock"}}}, {"weight":1}]}, {"name":"empty"}]}"#;
        let servers = parse(json, "http://127.0.0.1:9901/clusters").unwrap();
        let told: Vec<_> = servers
            .into_iter()
            .map(|s| (s.address.targets()[0].to_string(), s.registration.weight, s.registration.state))
            .collect();
        let expected = [
            ("10.0.3.7:9000", Some(3), State::Active),
            ("10.0.3.8:9000", Some(1), State::Down),
            ("unix:/run/app.sock", None, State::Active),
        ];
        assert_eq!(told, expected.map(|(a, w, s)| (a.to_owned(), w, s)));
        assert!(parse(b"api::default_priority::max_connections::1024", "x").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "(admin:)?\\PC*(\n \\PC*)*") {
            let _ = admin_address(&text);
        }
    }
}
