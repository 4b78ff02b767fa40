//! Names that a search list (resolv.conf(5)) makes of one: the name that is wanted, with one domain after the other
//! behind it. Nobody tells that a name is such a candidate, so it is read off the names.

/// Whether one is the other without some labels in its middle or at its end, as `api.svc.cluster.local` and `api` are
/// of `api.shop.svc.cluster.local`: domains of a search list mostly lie inside each other.
pub fn are_candidates(a: &str, b: &str) -> bool {
    let (a, b): (Vec<_>, Vec<_>) = (a.split('.').collect(), b.split('.').collect());
    let (long, short) = if a.len() > b.len() { (a, b) } else { (b, a) };
    let same_begin = long.iter().zip(&short).take_while(|(x, y)| x == y).count();
    let same_end = long.iter().rev().zip(short.iter().rev()).take_while(|(x, y)| x == y).count();
    long.len() > short.len() && same_begin > 0 && same_begin + same_end >= short.len()
}

/// Whether both begin with the same label, which is the least that candidates have in common.
pub fn begin_alike(a: &str, b: &str) -> bool {
    a.split('.').next() == b.split('.').next()
}

/// Whether `candidate` is `name`, or that and a domain.
pub fn is_made_of(candidate: &str, name: &str) -> bool {
    candidate.strip_prefix(name).is_some_and(|domain| domain.is_empty() || domain.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_differ_in_their_domains_only() {
        let names = ["api.shop.svc.cluster.local", "api.svc.cluster.local", "api.cluster.local", "api"];
        for pair in names.windows(2) {
            assert!(are_candidates(pair[0], pair[1]) && are_candidates(pair[1], pair[0]), "{pair:?}");
        }
        assert!(are_candidates("api.example.com", "api.example.com.corp.example"));
        assert!(!are_candidates("api.one.internal", "api.two.internal"));
        assert!(!are_candidates("web.shop.local", "api.local"));
        assert!(!are_candidates("api.local", "api.local"));
        assert!(begin_alike("api.corp.example", "api.lab.example") && !begin_alike("api", "apis"));
    }

    #[test]
    fn a_candidate_is_the_name_and_a_domain() {
        assert!(is_made_of("api.shop.svc", "api") && is_made_of("api", "api"));
        assert!(!is_made_of("apis.shop", "api") && !is_made_of("api", "api.shop"));
    }
}
