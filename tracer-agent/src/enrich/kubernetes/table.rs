//! Addresses and their names, by the object of the API that says so.
//!
//! An object is put as a whole and replaces what it said before. A list begins and ends: what it does not hold is gone
//! at its end, and not before, so that a new list after an outage forgets nothing on the way.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::endpoint::Endpoint;
use super::super::pods::Pod;
use crate::table::Fill;

/// Addresses with a name; a name takes about 200 bytes.
pub const ADDRESSES: usize = 50_000;
/// Pods of this node.
const PODS: usize = 1024;
/// Services of one address that are told.
const SERVICES: usize = 3;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    EndpointSlice,
    Service,
    Pod,
}

/// An object: its kind, and `NAMESPACE/NAME`.
pub type Key = (Kind, Arc<str>);

/// What an object says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub entries: Vec<Entry>,
    /// Of a pod of this node.
    pub pod: Option<NodePod>,
}

/// One address and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub ip: IpAddr,
    /// None: all ports.
    pub port: Option<u16>,
    pub service: Option<Arc<str>>,
    pub pod: Option<Arc<str>>,
}

/// A pod of this node, with what its cgroup and the node's files do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub workload: Option<String>,
    /// Ids of containers, and their names.
    pub containers: Vec<(String, String)>,
}

/// An address with its port, if the object says one.
type Place = (IpAddr, Option<u16>);

/// All that is known.
#[derive(Debug, Default)]
pub struct Table {
    objects: HashMap<Key, Vec<Place>>,
    names: HashMap<Place, Vec<(Key, Entry)>>,
    count: usize,
    /// By uid.
    pods: HashMap<String, NodePod>,
    uids: HashMap<Key, String>,
    /// What the lists that are being read hold so far.
    listed: HashMap<Kind, HashSet<Arc<str>>>,
    left_out: u64,
    pub failures: u64,
}

// === impl Table ===

impl Table {
    /// What this object says now.
    pub fn put(&mut self, key: &Key, said: Said) {
        self.take_out(key);
        if let Some(listed) = self.listed.get_mut(&key.0) {
            listed.insert(Arc::clone(&key.1));
        }
        let mut addresses = Vec::new();
        for entry in said.entries {
            if self.count >= ADDRESSES {
                self.left_out += 1;
                continue;
            }
            let address = (entry.ip.to_canonical(), entry.port);
            addresses.push(address);
            self.names.entry(address).or_default().push((key.clone(), entry));
            self.count += 1;
        }
        self.objects.insert(key.clone(), addresses);
        if let Some(pod) = said.pod {
            if self.pods.len() >= PODS {
                self.left_out += 1;
                return;
            }
            self.uids.insert(key.clone(), pod.uid.clone());
            self.pods.insert(pod.uid.clone(), pod);
        }
    }

    /// The object is gone.
    pub fn remove(&mut self, key: &Key) {
        self.take_out(key);
        if let Some(listed) = self.listed.get_mut(&key.0) {
            listed.remove(&key.1);
        }
    }

    /// A list of all objects of this kind begins.
    pub fn begin(&mut self, kind: Kind) {
        self.listed.insert(kind, HashSet::new());
    }

    /// The list is complete.
    pub fn end(&mut self, kind: Kind) {
        let Some(listed) = self.listed.remove(&kind) else { return };
        let is_gone = |key: &&Key| key.0 == kind && !listed.contains(&key.1);
        let gone: Vec<Key> = self.objects.keys().filter(is_gone).cloned().collect();
        for key in &gone {
            self.take_out(key);
        }
    }

    fn take_out(&mut self, key: &Key) {
        for address in self.objects.remove(key).unwrap_or_default() {
            let Some(names) = self.names.get_mut(&address) else { continue };
            let before = names.len();
            names.retain(|(of, _)| of != key);
            self.count -= before - names.len();
            if names.is_empty() {
                self.names.remove(&address);
            }
        }
        if let Some(uid) = self.uids.remove(key) {
            self.pods.remove(&uid);
        }
    }

    /// The names of an address.
    #[must_use]
    pub fn find(&self, address: SocketAddr) -> Option<Endpoint> {
        let ip = address.ip().to_canonical();
        let of = |port| self.names.get(&(ip, port)).into_iter().flatten().map(|(_, entry)| entry);
        let mut services: Vec<&str> = Vec::new();
        let mut pod = None;
        for entry in of(Some(address.port())).chain(of(None)) {
            if let Some(service) = entry.service.as_deref()
                && !services.contains(&service)
            {
                services.push(service);
            }
            pod = pod.or(entry.pod.as_deref());
        }
        services.sort_unstable();
        if services.len() > SERVICES {
            services.truncate(SERVICES);
            services.push("…");
        }
        let service = (!services.is_empty()).then(|| services.join(", "));
        let endpoint = Endpoint { service, pod: pod.map(str::to_owned), address: None };
        (endpoint != Endpoint::default()).then_some(endpoint)
    }

    /// Adds what is known of a pod of this node.
    pub fn complete(&self, pod: &mut Pod, container: &str) {
        let Some(known) = self.pods.get(&pod.uid) else { return };
        pod.namespace = Some(known.namespace.clone());
        pod.name = Some(known.name.clone());
        if known.workload.is_some() {
            pod.workload.clone_from(&known.workload);
        }
        if let Some((_, name)) = known.containers.iter().find(|(id, _)| id == container) {
            pod.container = Some(name.clone());
        }
    }

    #[must_use]
    pub fn fill(&self) -> Fill {
        Fill { table: "kubernetes_names", entries: self.count, capacity: ADDRESSES, evicted: self.left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, name: &str) -> Key {
        (kind, name.into())
    }

    fn entry(address: &str, service: &str, pod: Option<&str>) -> Entry {
        let address: SocketAddr = address.parse().unwrap();
        let service = Some(service.into());
        Entry { ip: address.ip(), port: Some(address.port()), service, pod: pod.map(Into::into) }
    }

    fn said(entries: Vec<Entry>) -> Said {
        Said { entries, pod: None }
    }

    fn service(table: &Table, address: &str) -> Option<String> {
        table.find(address.parse().unwrap()).and_then(|endpoint| endpoint.service)
    }

    #[test]
    fn what_an_object_says_replaces_what_it_said() {
        let mut table = Table::default();
        let slice = key(Kind::EndpointSlice, "shop/api-1");
        table.put(&slice, said(vec![entry("10.0.0.1:80", "shop/api", Some("shop/a"))]));
        table.put(&slice, said(vec![entry("10.0.0.2:80", "shop/api", None)]));
        assert_eq!(service(&table, "10.0.0.1:80"), None);
        assert_eq!(service(&table, "10.0.0.2:80").as_deref(), Some("shop/api"));
        assert_eq!(service(&table, "[::ffff:10.0.0.2]:80").as_deref(), Some("shop/api"));
        assert_eq!(service(&table, "10.0.0.2:81"), None);
        table.remove(&slice);
        assert_eq!((service(&table, "10.0.0.2:80"), table.fill().entries, table.names.len()), (None, 0, 0));
    }

    #[test]
    fn several_services_of_one_address_are_told() {
        let mut table = Table::default();
        for name in ["d", "b", "a", "c", "a"] {
            let slice = key(Kind::EndpointSlice, &format!("shop/{name}-{}", table.fill().entries));
            table.put(&slice, said(vec![entry("10.0.0.1:80", name, None)]));
        }
        assert_eq!(service(&table, "10.0.0.1:80").as_deref(), Some("a, b, c, …"));
    }

    #[test]
    fn a_new_list_forgets_only_what_it_does_not_hold_and_only_at_its_end() {
        let mut table = Table::default();
        let (kept, gone) = (key(Kind::EndpointSlice, "s/kept"), key(Kind::EndpointSlice, "s/gone"));
        let other = key(Kind::Service, "s/other");
        table.put(&kept, said(vec![entry("10.0.0.1:80", "s/kept", None)]));
        table.put(&gone, said(vec![entry("10.0.0.2:80", "s/gone", None)]));
        table.put(&other, said(vec![entry("10.0.0.3:80", "s/other", None)]));
        table.begin(Kind::EndpointSlice);
        assert_eq!(service(&table, "10.0.0.1:80").as_deref(), Some("s/kept"));
        table.put(&kept, said(vec![entry("10.0.0.1:80", "s/kept", None)]));
        assert_eq!(service(&table, "10.0.0.2:80").as_deref(), Some("s/gone"));
        table.end(Kind::EndpointSlice);
        assert_eq!(service(&table, "10.0.0.1:80").as_deref(), Some("s/kept"));
        assert_eq!(service(&table, "10.0.0.2:80"), None);
        assert_eq!(service(&table, "10.0.0.3:80").as_deref(), Some("s/other"));
    }

    #[test]
    fn addresses_are_bounded_and_what_finds_no_place_is_counted() {
        let mut table = Table::default();
        let entries = |count: u32| {
            let all = (0..count).map(|n| entry(&format!("{}:80", std::net::Ipv4Addr::from(n)), "s/x", None));
            said(all.collect())
        };
        let slice = key(Kind::EndpointSlice, "s/x");
        for _ in 0..2 {
            table.put(&slice, entries(ADDRESSES as u32 + 5));
        }
        let fill = table.fill();
        assert_eq!((fill.entries, fill.evicted), (ADDRESSES, 10));
        table.remove(&slice);
        assert_eq!((table.fill().entries, table.names.len(), table.objects.len()), (0, 0, 0));
    }
}
