//! What made a pod, as far as the pod's name says.
//!
//! Controllers append to their own name, and the API server five characters to what they ask for. Only two shapes can
//! belong to nothing else. A DaemonSet's pod (`agent-x7x8k`), a Job's and a ReplicaSet's without a Deployment look alike,
//! and like what people type.

/// What `rand.SafeEncodeString` of k8s.io/apimachinery writes for the digits of a number: a ReplicaSet's hash of its
/// template is a 32-bit number in this spelling.
const HASH: &[u8] = b"456789bcdf";
/// Almost no hash is shorter, and none longer.
const HASH_DIGITS: std::ops::RangeInclusive<usize> = 7..=10;
/// The alphabet of the five characters (`rand.String` there): no vowels, so that they make no words.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_DIGITS: usize = 5;
/// Of a replica's number, which is 32 bits wide.
const ORDINAL_DIGITS: usize = 10;
/// A static pod has a hash in place of a uid, and its node's name at the end.
const STATIC_UID: usize = 32;

/// `deployment/NAME` or `statefulset/NAME`; None where the pod's name does not tell.
#[must_use]
pub fn workload_of(pod: &str, uid: &str) -> Option<String> {
    if uid.len() == STATIC_UID {
        return None;
    }
    let (rest, end) = pod.rsplit_once('-')?;
    if is_ordinal(end) && !rest.is_empty() {
        return Some(format!("statefulset/{rest}"));
    }
    let (name, hash) = rest.rsplit_once('-')?;
    let is_replica = HASH_DIGITS.contains(&hash.len())
        && consists_of(hash, HASH)
        && end.len() == SUFFIX_DIGITS
        && consists_of(end, SUFFIX);
    (is_replica && !name.is_empty()).then(|| format!("deployment/{name}"))
}

fn consists_of(text: &str, alphabet: &[u8]) -> bool {
    text.bytes().all(|byte| alphabet.contains(&byte))
}

/// `0`, `1`, … without leading zeros. Five digits may also be the API server's characters.
fn is_ordinal(text: &str) -> bool {
    let is_number =
        !text.is_empty() && text.len() <= ORDINAL_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    let is_plain = text == "0" || !text.starts_with('0');
    is_number && is_plain && !(text.len() == SUFFIX_DIGITS && consists_of(text, SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "2d9d0c1c-7a6c-4c1e-9a43-0f5a7c6a8b11";

    #[test]
    fn only_sure_shapes_have_a_workload() {
        for (pod, expected) in [
            ("nginx-deployment-66b6c48dd5-gz5nx", Some("deployment/nginx-deployment")),
            ("coredns-6955765f44-4kpjm", Some("deployment/coredns")),
            ("api-75675f5897-7ci7o", None),
            ("api-75675f5897-ci76", None),
            ("api-d8c8f9b-22222", Some("deployment/api")),
            ("db-0", Some("statefulset/db")),
            ("kafka-broker-12", Some("statefulset/kafka-broker")),
            ("db-01", None),
            // A ReplicaSet, a DaemonSet, a Job or a bare pod.
            ("kube-proxy-x7x8k", None),
            ("frontend-b2zdv", None),
            ("backup-28912345-x7x8k", None),
            ("import-20261121-x7x8k", None),
            ("agent-24567", None),
            ("agent-66b6c48dd5-24567", Some("deployment/agent")),
            ("shell", None),
            ("-0", None),
            ("-66b6c48dd5-gz5nx", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(workload_of(pod, UID).as_deref(), expected, "{pod}");
        }
    }

    #[test]
    fn a_static_pod_ends_with_the_name_of_its_node() {
        assert_eq!(workload_of("etcd-control-plane-0", "0123456789abcdef0123456789abcdef"), None);
    }
}
