//! The watch against a stand-in for an API server, which sends what a real one sends, shortened to what is read.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stand_in::{StandIn, World};
use super::*;

/// The longest pause of kube's back-off within these tests is some seconds.
const LIMIT: Duration = Duration::from_secs(30);
const UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";
const SLICES: &str = "endpointslices";

fn slice(name: &str, service: &str, ip: &str, pod: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "11", "uid": name,
            "labels": {"kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node-2", "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": "x"}}],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 53}],
    })
}

fn service() -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "api", "namespace": "shop", "resourceVersion": "12", "uid": "s"},
        "spec": {"clusterIP": "10.96.12.7", "clusterIPs": ["10.96.12.7", "fd00::7"], "type": "ClusterIP",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]},
    })
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "agent-x7x8k", "namespace": "shop", "uid": UID, "resourceVersion": "13",
            "labels": {"app": "agent", "controller-revision-hash": "6d4b75cb6d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "d",
                "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIP": "10.244.1.9", "podIPs": [{"ip": "10.244.1.9"}],
            "hostIP": "192.0.2.1",
            "containerStatuses": [{"name": "main", "containerID": "containerd://abcd", "image": "i", "imageID": "",
                "ready": true, "restartCount": 0}]},
    })
}

fn world() -> Arc<World> {
    let world = World::new();
    world.set(SLICES, vec![slice("api-1", "api", "10.244.1.7", "api-66b6c48dd5-gz5nx")]);
    world.set("services", vec![service()]);
    world.set("pods", vec![pod()]);
    world
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn watch(address: SocketAddr) -> Kubernetes {
    let config = Config::new(format!("http://{address}").parse().unwrap());
    let mut kubernetes = Kubernetes::of(config, "node-1");
    kubernetes.begin().unwrap();
    kubernetes
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn names(kubernetes: &Kubernetes, address: &str) -> (Option<String>, Option<String>) {
    let endpoint = kubernetes.endpoint(&Target::Tcp(address.parse().unwrap())).unwrap_or_default();
    (endpoint.service, endpoint.pod)
}

fn is_api(kubernetes: &Kubernetes, address: &str) -> bool {
    names(kubernetes, address).0.as_deref() == Some("shop/api")
}

#[test]
fn kubernetes_names_services_pods_and_workloads() {
    let server = StandIn::start(any(), world());
    let kubernetes = watch(server.address);
    until("all is listed", || kubernetes.fill().entries == 4);
    let api = Some("shop/api".to_owned());
    let replica = Some("shop/api-66b6c48dd5-gz5nx".to_owned());
    assert_eq!(names(&kubernetes, "10.244.1.7:8080"), (api.clone(), replica));
    assert_eq!(names(&kubernetes, "10.244.1.7:53"), (None, None));
    assert_eq!(names(&kubernetes, "10.96.12.7:80"), (api.clone(), None));
    assert_eq!(names(&kubernetes, "[fd00::7]:80"), (api, None));
    assert_eq!(names(&kubernetes, "10.244.1.9:1234"), (None, Some("shop/agent-x7x8k".to_owned())));
    assert_eq!(names(&kubernetes, "192.0.2.1:80"), (None, None));

    let mut known = Pod { namespace: None, name: None, uid: UID.to_owned(), container: None, workload: None };
    kubernetes.complete(&mut known, "abcd");
    assert_eq!(known.workload.as_deref(), Some("daemonset/agent"));
    assert_eq!((known.name.as_deref(), known.container.as_deref()), (Some("agent-x7x8k"), Some("main")));

    // Of all pods of a cluster, only this node's are asked for.
    let queries = server.world.queries.lock().unwrap().clone();
    let of_pods: Vec<_> = queries.iter().filter(|query| query.starts_with("/api/v1/pods")).collect();
    let own = |query: &&&String| query.contains("spec.nodeName%3Dnode-1");
    assert!(!of_pods.is_empty() && of_pods.iter().all(|query| own(&query)), "{of_pods:?}");
}

#[test]
fn kubernetes_names_follow_the_watch_through_dropped_connections() {
    let server = StandIn::start(any(), world());
    let kubernetes = watch(server.address);
    until("it is listed", || is_api(&kubernetes, "10.244.1.7:8080"));
    until("it is watched", || server.world.watches() == 1);
    server.world.tell("MODIFIED", &slice("api-1", "api", "10.244.1.8", "api-66b6c48dd5-x7x8k"));
    until("the pod has moved", || is_api(&kubernetes, "10.244.1.8:8080"));
    assert_eq!(names(&kubernetes, "10.244.1.7:8080"), (None, None));

    server.world.drop_connections();
    until("it is watched again", || server.world.watches() == 2);
    assert!(server.world.lists.load(Ordering::Relaxed) <= 3, "it is listed again");
    assert!(is_api(&kubernetes, "10.244.1.8:8080"));
    let bookmark = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "",
        "metadata": {"resourceVersion": "20"}, "endpoints": null, "ports": null});
    server.world.tell("BOOKMARK", &bookmark);
    server.world.tell("ADDED", &slice("web-1", "web", "10.244.1.10", "web-0"));
    until("a Service comes", || names(&kubernetes, "10.244.1.10:8080").0.as_deref() == Some("shop/web"));
    server.world.tell("DELETED", &slice("api-1", "api", "10.244.1.8", "api-66b6c48dd5-x7x8k"));
    until("a Service goes", || names(&kubernetes, "10.244.1.8:8080") == (None, None));
}

#[test]
fn kubernetes_is_listed_again_when_a_version_has_expired() {
    let server = StandIn::start(any(), world());
    let kubernetes = watch(server.address);
    until("it is listed", || is_api(&kubernetes, "10.244.1.7:8080"));
    until("it is watched", || server.world.watches() > 0);
    let lists = server.world.lists.load(Ordering::Relaxed);
    // What happens between is told by no event.
    *server.world.expired.lock().unwrap() = true;
    server.world.set(SLICES, vec![slice("api-2", "api", "10.244.1.20", "api-66b6c48dd5-24567")]);
    server.world.drop_connections();
    until("the new list", || is_api(&kubernetes, "10.244.1.20:8080"));
    until("the old is forgotten", || names(&kubernetes, "10.244.1.7:8080") == (None, None));
    assert!(server.world.lists.load(Ordering::Relaxed) > lists);
}

#[test]
fn kubernetes_names_stay_while_the_server_is_dead() {
    // An address of its own: nobody else may be given the port while nobody listens there.
    let server = StandIn::start(SocketAddr::from(([127, 83, 7, 2], 0)), world());
    let address = server.address;
    let kubernetes = watch(address);
    until("all is listed", || kubernetes.fill().entries == 4);
    drop(server);
    until("it is missed", || kubernetes.failures() > 2);
    assert!(is_api(&kubernetes, "10.244.1.7:8080"));
    assert_eq!(kubernetes.fill().entries, 4);
    let world = world();
    world.set(SLICES, vec![slice("api-1", "api", "10.244.1.30", "api-66b6c48dd5-24567")]);
    *world.expired.lock().unwrap() = true;
    let _again = StandIn::start(address, world);
    until("it is back", || is_api(&kubernetes, "10.244.1.30:8080"));
}

#[test]
fn kubernetes_without_a_server_knows_nothing_and_counts() {
    // At an address of its own, so that nobody else is given the port.
    let socket = std::net::TcpListener::bind("127.83.7.3:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let kubernetes = watch(address);
    until("it is missed", || kubernetes.failures() >= 3);
    assert_eq!(names(&kubernetes, "10.244.1.7:8080"), (None, None));
    assert_eq!(kubernetes.fill().entries, 0);
}
