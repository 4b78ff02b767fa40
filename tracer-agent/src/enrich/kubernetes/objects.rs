//! What objects of the API say of addresses.
//!
//! Names come from an API server, which refuses what is no name; addresses that are none are passed over.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::table::{Entry, Key, Kind, NodePod, Said};

/// The Service of a slice (well-known labels of Kubernetes).
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// What a Deployment gives to its ReplicaSets, and appends to their names.
const HASH_LABEL: &str = "pod-template-hash";

/// An object that says something of addresses.
pub trait Naming: Resource<DynamicType = ()> {
    const KIND: Kind;

    fn said(&self) -> Said;

    /// None of an object without a name.
    fn key(&self) -> Option<Key> {
        Some((Self::KIND, full_name(self.meta())?))
    }
}

impl Naming for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn said(&self) -> Said {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let label = self.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        let service: Option<Arc<str>> = label.map(|name| format!("{namespace}/{name}").into());
        // Without ports the slice is for all of them.
        let ports: Vec<Option<u16>> = match self.ports.as_deref() {
            Some(ports) if !ports.is_empty() => ports
                .iter()
                .filter(|port| is_tcp(port.protocol.as_deref()))
                .map(|port| number(port.port))
                .collect(),
            _ => vec![None],
        };
        let mut entries = Vec::new();
        for endpoint in &self.endpoints {
            let pod = pod_of(endpoint, namespace);
            for ip in endpoint.addresses.iter().filter_map(|address| address.parse().ok()) {
                let entry = |port: &Option<u16>| Entry {
                    ip,
                    port: *port,
                    service: service.clone(),
                    pod: pod.clone(),
                };
                entries.extend(ports.iter().map(entry));
            }
        }
        Said { entries, pod: None }
    }
}

impl Naming for Service {
    const KIND: Kind = Kind::Service;

    fn said(&self) -> Said {
        let Some(spec) = &self.spec else { return Said::default() };
        let service = full_name(&self.metadata);
        // `None` and an empty text stand for none.
        let ips: Vec<IpAddr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .chain(&spec.cluster_ip)
            .chain(spec.external_ips.iter().flatten())
            .filter_map(|ip| ip.parse().ok())
            .collect();
        let mut entries: Vec<Entry> = Vec::new();
        for port in spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref())) {
            for ip in &ips {
                let entry =
                    Entry { ip: *ip, port: number(Some(port.port)), service: service.clone(), pod: None };
                if !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
        }
        Said { entries, pod: None }
    }
}

impl Naming for Pod {
    const KIND: Kind = Kind::Pod;

    fn said(&self) -> Said {
        let on_host = self.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let status = self.status.as_ref();
        // A pod that has ended does not have its address any more.
        let has_ended =
            status.is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
        let mut entries = Vec::new();
        if let (Some(status), false) = (status, on_host || has_ended) {
            let ips = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
            let mut ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
            ips.dedup();
            let pod = full_name(&self.metadata);
            entries.extend(ips.into_iter().map(|ip| Entry {
                ip,
                port: None,
                service: None,
                pod: pod.clone(),
            }));
        }
        Said { entries, pod: node_pod(self) }
    }
}

fn node_pod(pod: &Pod) -> Option<NodePod> {
    let (uid, name) = (pod.metadata.uid.clone()?, pod.metadata.name.clone()?);
    // The cgroup of a static pod has the hash of its file, which its mirror in the API repeats.
    let hash = pod.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.hash"));
    let containers = pod.status.iter().flat_map(statuses).filter_map(|status| {
        // `containerd://<id>`
        let (_, id) = status.container_id.as_deref()?.rsplit_once('/')?;
        Some((id.to_owned(), status.name.clone()))
    });
    Some(NodePod {
        uid: hash.cloned().unwrap_or(uid),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name,
        workload: workload_of(&pod.metadata),
        containers: containers.collect(),
    })
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    let ephemeral = status.ephemeral_container_statuses.iter().flatten();
    status.container_statuses.iter().flatten().chain(init).chain(ephemeral)
}

/// The controller that made it, or the Deployment above its ReplicaSet.
fn workload_of(metadata: &ObjectMeta) -> Option<String> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    // Of a static pod.
    if owner.kind == "Node" {
        return None;
    }
    let hash = metadata.labels.as_ref().and_then(|labels| labels.get(HASH_LABEL));
    let deployment = hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|h| owner.name.strip_suffix(h)?.strip_suffix('-'));
    Some(match deployment {
        Some(name) => format!("deployment/{name}"),
        None => format!("{}/{}", owner.kind.to_ascii_lowercase(), owner.name),
    })
}

fn pod_of(endpoint: &Endpoint, namespace: &str) -> Option<Arc<str>> {
    let of = endpoint.target_ref.as_ref().filter(|of| of.kind.as_deref() == Some("Pod"))?;
    let namespace = of.namespace.as_deref().unwrap_or(namespace);
    Some(format!("{namespace}/{}", of.name.as_deref()?).into())
}

fn full_name(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{namespace}/{}", metadata.name.as_deref()?).into())
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn number(port: Option<i32>) -> Option<u16> {
    port.and_then(|port| u16::try_from(port).ok())
}
