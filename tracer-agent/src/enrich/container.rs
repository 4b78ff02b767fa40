//! The container behind a cgroup path.
//!
//! Runtimes write the container's id into the path, each in its own shape; there is no other rule that holds
//! for all of them. Reads text only, asks no runtime.

/// A container, as its cgroup path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// None where the path does not say (cgroupfs drivers write the bare id).
    pub runtime: Option<Runtime>,
    /// With dashes, as the API server spells it; static pods have 32 digits without.
    pub pod_uid: Option<String>,
}

/// Who made the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
}

/// What stands before the id where systemd makes the cgroups.
const PREFIXES: [(&str, Runtime); 4] = [
    ("docker-", Runtime::Docker),
    ("cri-containerd-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("libpod-", Runtime::Podman),
];

/// Digits that `docker ps` and `crictl ps` show of an id.
const SHORT: usize = 12;

// === impl Container ===

impl Container {
    /// The innermost container of a path; None for a unit of systemd and for everything else.
    #[must_use]
    pub fn from_cgroup(path: &str) -> Option<Self> {
        let mut found: Option<(String, Option<Runtime>)> = None;
        let mut pod_uid = None;
        // containerd with a mismatched driver writes `kubepods-…-pod<uid>.slice:cri-containerd:<id>`.
        let mut previous = "";
        for segment in path.split(['/', ':']) {
            if let Some(uid) = pod_uid_of(segment) {
                pod_uid = Some(uid);
            } else if let Some((id, runtime)) = id_of(segment, previous) {
                found = Some((id.to_owned(), runtime));
            }
            previous = segment;
        }
        found.map(|(id, runtime)| Self { id, runtime, pod_uid })
    }

    /// What `docker ps` and `crictl ps` show.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..SHORT).unwrap_or(&self.id)
    }
}

fn id_of<'a>(segment: &'a str, previous: &str) -> Option<(&'a str, Option<Runtime>)> {
    let bare = segment.strip_suffix(".scope").unwrap_or(segment);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = bare.strip_prefix(prefix) {
            // `crio-conmon-<id>` and `libpod-conmon-<id>` hold the monitor, which is outside of the container.
            return is_id(id).then_some((id, Some(runtime)));
        }
    }
    let runtime = match previous {
        "docker" => Some(Runtime::Docker),
        "cri-containerd" => Some(Runtime::Containerd),
        "crio" => Some(Runtime::CriO),
        _ => None,
    };
    is_id(bare).then_some((bare, runtime))
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `kubepods-burstable-pod<uid>.slice` (systemd, `_` for `-`), or `pod<uid>` (cgroupfs).
fn pod_uid_of(segment: &str) -> Option<String> {
    let text = match segment.strip_suffix(".slice") {
        // Below a root of its own (`--cgroup-root`) all that stands above is repeated: `kubelet-kubepods-pod<uid>`.
        Some(slice) => slice.split_once("kubepods")?.1.rsplit_once("-pod")?.1,
        None => segment.strip_prefix("pod")?,
    };
    let uid = text.replace('_', "-");
    let is_uid = match uid.len() {
        32 => is_hex(&uid),
        36 => {
            let lengths = uid.split('-').map(str::len);
            lengths.eq([8, 4, 4, 4, 12]) && uid.split('-').all(is_hex)
        }
        _ => false,
    };
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";

    fn check(path: &str, expected: Option<(Option<Runtime>, Option<&str>)>) {
        let path = path
            .replace("<id>", ID)
            .replace("<other>", OTHER)
            .replace("<uid_>", &UID.replace('-', "_"))
            .replace("<uid>", UID);
        let expected = expected.map(|(runtime, pod)| Container {
            id: ID.to_owned(),
            runtime,
            pod_uid: pod.map(str::to_owned),
        });
        assert_eq!(Container::from_cgroup(&path), expected, "{path}");
    }

    #[test]
    fn every_shape_of_the_runtimes_is_read() {
        use Runtime::{Containerd, CriO, Docker, Podman};
        for (path, runtime, pod) in [
            ("/docker/<id>", Some(Docker), None),
            ("/system.slice/docker-<id>.scope", Some(Docker), None),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-<id>.scope",
                Some(Docker),
                None,
            ),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/cri-containerd-<id>.scope",
                Some(Containerd),
                Some(UID),
            ),
            ("/kubepods.slice/kubepods-pod<uid_>.slice/crio-<id>.scope", Some(CriO), Some(UID)),
            ("/kubepods.slice/kubepods-pod<uid_>.slice/crio-<id>.scope/container", Some(CriO), Some(UID)),
            ("/kubelet.slice/kubelet-kubepods.slice/pod<uid>/<id>", None, Some(UID)),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod<uid_>.slice/cri-containerd-<id>.scope",
                Some(Containerd),
                Some(UID),
            ),
            // A node that is itself a container (kind, minikube).
            ("/docker/<other>/kubelet/kubepods/burstable/pod<uid>/<id>", None, Some(UID)),
            // As an agent sees others from a cgroup namespace of its own.
            (
                "/../../kubepods-burstable-pod<uid_>.slice/cri-containerd-<id>.scope",
                Some(Containerd),
                Some(UID),
            ),
            ("/../../pod<uid>/<id>", None, Some(UID)),
            ("/kubepods/besteffort/pod<uid>/<id>", None, Some(UID)),
            (
                "/kubepods/pod0123456789abcdef0123456789abcdef/<id>",
                None,
                Some("0123456789abcdef0123456789abcdef"),
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-pod<uid_>.slice:cri-containerd:<id>",
                Some(Containerd),
                Some(UID),
            ),
            ("/machine.slice/libpod-<id>.scope", Some(Podman), None),
            ("/machine.slice/libpod-<id>.scope/container", Some(Podman), None),
            ("/libpod_parent/libpod-<id>", Some(Podman), None),
            ("/ecs/4f2e0000/<id>", None, None),
            ("/../docker-<id>.scope/system.slice/app.service", Some(Docker), None),
            ("/docker/<other>/docker/<id>", Some(Docker), None),
        ] {
            check(path, Some((runtime, pod)));
        }
    }

    #[test]
    fn what_is_no_container_has_none() {
        for path in [
            "",
            "/",
            "/init.scope",
            "/system.slice/nginx.service",
            "/user.slice/user-1000.slice/session-2.scope",
            "/machine.slice/libpod-conmon-<id>.scope",
            "/kubepods.slice/kubepods-pod<uid_>.slice",
            "/kubepods.slice/kubepods-pod<uid_>.slice/crio-conmon-<id>.scope",
            "/docker/<id>0",
            "/docker/not-an-id",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn the_short_id_is_what_docker_ps_shows() {
        let container = Container::from_cgroup(&format!("/docker/{ID}"));
        assert_eq!(container.as_ref().map(Container::short_id), Some("0123456789ab"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(path in "\\PC*") {
            let _ = Container::from_cgroup(&path);
        }
    }
}
