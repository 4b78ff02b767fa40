use proptest::prelude::*;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";
const POD: &str = "api-66b6c48dd5-gz5nx";

/// A node with `pods` and `containers` in a folder of its own.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pods")).unwrap();
        fs::create_dir(folder.path().join("containers")).unwrap();
        Self { folder }
    }

    fn pods(&self) -> Pods {
        Pods::new(&self.folder.path().join("pods"))
    }

    fn pod(&self, name: &str, containers: &[&str]) {
        let folder = self.folder.path().join("pods").join(name);
        fs::create_dir(&folder).unwrap();
        for container in containers {
            fs::create_dir(folder.join(container)).unwrap();
        }
    }

    fn link(&self, name: &str) {
        // A link to where nothing is: what it is called counts.
        std::os::unix::fs::symlink("/nowhere", self.folder.path().join("containers").join(name)).unwrap();
    }
}

fn container(id: &str, uid: Option<&str>) -> Container {
    Container { id: id.to_owned(), runtime: None, pod_uid: uid.map(str::to_owned) }
}

fn api(container: Option<&str>) -> Pod {
    Pod {
        namespace: Some("shop".to_owned()),
        name: Some(POD.to_owned()),
        uid: UID.to_owned(),
        container: container.map(str::to_owned),
        workload: Some("deployment/api".to_owned()),
    }
}

#[test]
fn directories_and_links_give_the_names() {
    let node = Node::new();
    node.pod("kube-system_kube-proxy-x7x8k_11111111-7a6c-4c1e-9a43-0f5a7c6a8b11", &["kube-proxy"]);
    node.pod(&format!("shop_{POD}_{UID}"), &["init", "php-fpm", "sidecar"]);
    node.link(&format!("{POD}_shop_php-fpm-{ID}.log"));
    let mut pods = node.pods();
    assert_eq!(pods.of(&container(ID, Some(UID))), Some(api(Some("php-fpm"))));
    // Which of several it is has no name without a link.
    assert_eq!(pods.of(&container(OTHER, Some(UID))), Some(api(None)));
    // It stays known when the kubelet has cleaned up.
    fs::remove_dir_all(node.folder.path()).unwrap();
    assert_eq!(pods.of(&container(ID, Some(UID))), Some(api(Some("php-fpm"))));
}

#[test]
fn the_only_container_needs_no_link() {
    let node = Node::new();
    node.pod(&format!("shop_{POD}_{UID}"), &["php-fpm"]);
    assert_eq!(node.pods().of(&container(ID, Some(UID))), Some(api(Some("php-fpm"))));
}

#[test]
fn a_pod_that_comes_later_is_found_then() {
    let node = Node::new();
    let mut pods = node.pods();
    assert_eq!(pods.of(&container(ID, Some(UID))), Some(Pod::nameless(UID)));
    node.pod(&format!("shop_{POD}_{UID}"), &["php-fpm"]);
    assert_eq!(pods.of(&container(ID, Some(UID))), Some(api(Some("php-fpm"))));
}

#[test]
fn what_is_no_pod_has_none() {
    let node = Node::new();
    assert_eq!(node.pods().of(&container(ID, None)), None);
    let nowhere = Path::new("/nonexistent/pods");
    assert_eq!(Pods::new(nowhere).of(&container(ID, Some(UID))), Some(Pod::nameless(UID)));
}

#[test]
fn names_that_no_api_server_gives_are_passed_over() {
    let node = Node::new();
    for name in [
        format!("shop_api\u{1b}]0;x_{UID}"),
        format!("SHOP_api_{UID}"),
        format!("shop_a_b_{UID}"),
        format!("_api_{UID}"),
        format!("shop__{UID}"),
        format!("{}_api_{UID}", "n".repeat(64)),
        format!("shop_-api_{UID}"),
        format!("_{UID}"),
        UID.to_owned(),
    ] {
        node.pod(&name, &["php-fpm"]);
    }
    assert_eq!(node.pods().of(&container(ID, Some(UID))), Some(Pod::nameless(UID)));
    node.pod(&format!("shop_{POD}_{UID}"), &["\u{1b}[2J"]);
    node.link(&format!("{POD}_shop_\u{7}-{ID}.log"));
    assert_eq!(node.pods().of(&container(ID, Some(UID))), Some(api(None)));
}

#[test]
fn the_table_is_bounded_and_says_what_made_room() {
    let node = Node::new();
    node.pod(&format!("shop_{POD}_{UID}"), &["php-fpm"]);
    let mut pods = node.pods();
    for number in 0..CAPACITY + 3 {
        pods.of(&container(&format!("{number:064x}"), Some(UID)));
    }
    let fill = pods.fill();
    assert_eq!((fill.entries, fill.evicted), (3, CAPACITY as u64));
}

proptest! {
    #[test]
    fn any_name_is_read_without_a_panic(name in "\\PC*", uid in "\\PC*", id in "\\PC*") {
        let _ = names_of(&name, &uid);
        let _ = names_of(&format!("{name}_{uid}"), &uid);
        let _ = container_of(&name, &uid, &id, &id);
        let _ = workload_of(&name, &uid);
    }

    #[test]
    fn what_is_given_is_a_name(namespace in "[a-z0-9_.\\PC]{0,8}", pod in "[a-z0-9_.\\PC]{0,8}") {
        if let Some((namespace, pod)) = names_of(&format!("{namespace}_{pod}_{UID}"), UID) {
            prop_assert!(is_name(namespace, LABEL) && is_name(pod, NAME));
        }
    }
}
