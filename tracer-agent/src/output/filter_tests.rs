use proptest::prelude::*;

use super::*;
use crate::output::fixture;

fn shows(filter: &Filter, verdict: &Verdict) -> bool {
    filter.shows(verdict, &fixture::view(verdict))
}

fn upstreams(words: &[&str]) -> Filter {
    Filter { upstream: words.iter().map(|w| w.parse().unwrap()).collect(), ..Filter::default() }
}

#[test]
fn without_a_word_it_shows_what_is_news() {
    let mut verdict = fixture::oom_killed();
    assert!(shows(&Filter::default(), &verdict));
    verdict.impact = Impact::None;
    assert!(!shows(&Filter::default(), &verdict));
    assert!(shows(&Filter { all: true, ..Filter::default() }, &verdict));
}

#[test]
fn upstreams_are_told_by_address_port_and_network() {
    let verdict = fixture::oom_killed();
    for word in ["10.0.3.7", "10.0.3.7:9000", "10.0.0.0/8", "10.0.3.7/32", "0.0.0.0/0", "::ffff:10.0.3.7"] {
        assert!(shows(&upstreams(&[word]), &verdict), "{word}");
    }
    for word in ["10.0.3.8", "10.0.3.7:9001", "10.1.0.0/16", "::/0", "::1"] {
        assert!(!shows(&upstreams(&[word]), &verdict), "{word}");
    }
    assert!(shows(&upstreams(&["::1", "10.0.3.7"]), &verdict));
}

#[test]
fn paths_and_names_are_told_exactly() {
    for (word, target) in [
        ("unix:/run/api.sock", Target::Unix("/run/api.sock".to_owned())),
        ("unix:@api", Target::Unix("@api".to_owned())),
        ("dns:api.example", Target::Dns("api.example".to_owned())),
    ] {
        let verdict = Verdict { upstream: Some(target), ..fixture::oom_killed() };
        assert!(shows(&upstreams(&[word]), &verdict), "{word}");
        assert!(!shows(&upstreams(&[word]), &fixture::oom_killed()), "{word}");
        assert!(!shows(&upstreams(&["0.0.0.0/0", "unix:/run/other.sock", "dns:x"]), &verdict), "{word}");
        assert_eq!(upstreams(&[word]).upstream[0].to_string(), word);
    }
}

#[test]
fn an_accepted_socket_has_no_upstream_to_ask_for() {
    let verdict = fixture::accepted();
    assert!(shows(&Filter::default(), &verdict));
    assert!(!shows(&upstreams(&["0.0.0.0/0"]), &verdict));
}

#[test]
fn several_kinds_have_to_hold_together() {
    let verdict = fixture::oom_killed();
    let mut filter = Filter {
        by: vec![By::Upstream],
        cause: vec![Cause::NoListener, Cause::OomKilled],
        impact: vec![Impact::RequestLost],
        netns: vec![verdict.netns],
        ..Filter::default()
    };
    assert!(shows(&filter, &verdict));
    filter.netns = vec![1];
    assert!(!shows(&filter, &verdict));
}

#[test]
fn a_named_gateways_own_closes_are_news() {
    let mut verdict = fixture::oom_killed();
    verdict.gateway = false;
    verdict.by = By::Gateway;
    assert!(!shows(&Filter::default(), &verdict));
    for (word, shown) in [
        ("nginx", true),
        ("/system.slice/nginx.service", true),
        ("/system.slice/", true),
        ("/", true),
        ("/system", false),
        ("curl", false),
        ("8080", false),
    ] {
        let filter = Filter { gateway: vec![word.parse().unwrap()], ..Filter::default() };
        assert_eq!(shows(&filter, &verdict), shown, "{word}");
    }
}

#[test]
fn what_cannot_be_read_is_answered_with_one_line() {
    for (word, error) in [
        (
            "web-1",
            "`web-1` is no upstream: 10.0.3.7, 10.0.3.7:9000, [::1]:9000, 10.0.0.0/8, unix:/run/api.sock and \
             dns:api.example are",
        ),
        ("10.0.0.0/33", "`10.0.0.0/33`: a prefix of 10.0.0.0 has at most 32 bits"),
        ("::/300", "`::/300`: a prefix of :: has at most 128 bits"),
    ] {
        assert_eq!(word.parse::<UpstreamFilter>().unwrap_err().to_string(), error);
    }
    for word in ["", ":80", "10.0.3.7:", "10.0.3.7:99999", "/8", "10.0.0.0/", "10.0.0.0/-1", "a\nb"] {
        let error = word.parse::<UpstreamFilter>().unwrap_err().to_string();
        assert!(!error.contains('\n'), "{word:?}: {error}");
    }
    for word in ["", "0", "65536", "99999999999999999999", "a-name-longer-than-15"] {
        assert!(word.parse::<GatewayFilter>().is_err(), "{word:?}");
    }
}

#[test]
fn it_travels_as_the_words_of_the_command_line() {
    let filter = Filter {
        upstream: vec!["10.1.2.3/8".parse().unwrap(), "[::1]:80".parse().unwrap()],
        by: vec![By::Upstream],
        gateway: vec!["nginx".parse().unwrap(), "/".parse().unwrap(), "80".parse().unwrap()],
        ..Filter::default()
    };
    let json = serde_json::to_string(&filter).unwrap();
    assert_eq!(
        json,
        r#"{"upstream":["10.0.0.0/8","[::1]:80"],"by":["upstream"],"cause":[],"impact":[],"netns":[],"gateway":["nginx","/","80"],"all":false}"#
    );
    assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
    assert_eq!(serde_json::from_str::<Filter>("{}").unwrap(), Filter::default());
    assert!(serde_json::from_str::<Filter>(r#"{"upstreams":[]}"#).is_err());
    assert!(serde_json::from_str::<Filter>(r#"{"cause":["bad_luck"]}"#).is_err());
}

proptest! {
    #[test]
    fn reading_is_total_and_what_is_read_is_spelled_alike(text in "[0-9a-f.:/\\[\\]]{0,24}") {
        if let Ok(filter) = text.parse::<UpstreamFilter>() {
            prop_assert_eq!(filter.to_string().parse::<UpstreamFilter>().unwrap(), filter);
        }
    }

    #[test]
    fn a_network_holds_its_own_addresses(address in any::<IpAddr>(), prefix in 0u8..=128, port in any::<u16>()) {
        if let Ok(filter) = format!("{address}/{prefix}").parse::<UpstreamFilter>() {
            let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            prop_assert!(mapped || filter.holds(&Target::Tcp(SocketAddr::new(address, port))));
        }
    }
}

#[test]
fn processes_are_told_by_command_and_pid_on_both_sides() {
    let verdict = fixture::oom_killed();
    let of = |word: &str| Filter { process: vec![word.parse().unwrap()], ..Filter::default() };
    for word in ["nginx", "812", "php-fpm", "4242"] {
        assert!(shows(&of(word), &verdict), "{word}");
    }
    for word in ["php", "81", "1"] {
        assert!(!shows(&of(word), &verdict), "{word}");
    }
}

#[test]
fn containers_are_told_by_how_their_id_begins() {
    let mut verdict = fixture::oom_killed();
    let of = |id: &str| Filter { container: vec![id.to_owned()], ..Filter::default() };
    assert!(!shows(&of("ab"), &verdict));
    verdict.owner.as_mut().unwrap().cgroup_id = fixture::CONTAINER_CGROUP;
    assert!(shows(&of("ab"), &verdict));
    assert!(shows(&of(&"ab".repeat(32)), &verdict));
    assert!(!shows(&of("ba"), &verdict));
}

#[test]
fn pods_are_told_on_both_sides_by_how_their_names_begin() {
    let of = |name: &str| Filter { pod: vec![name.to_owned()], ..Filter::default() };
    let mut owner = fixture::oom_killed();
    owner.owner.as_mut().unwrap().cgroup_id = fixture::POD_CGROUP;
    let mut culprit = fixture::oom_killed();
    culprit.culprit.as_mut().unwrap().process.cgroup_id = fixture::POD_CGROUP;
    for verdict in [owner, culprit] {
        for word in ["shop/", "shop/api", "shop/api-66b6c48dd5-gz5nx", "api-66b", "api-66b6c48dd5-gz5nx"] {
            assert!(shows(&of(word), &verdict), "{word}");
        }
        for word in ["sho/", "shop/b", "pi-66b", "shop", "hop/api"] {
            assert!(!shows(&of(word), &verdict), "{word}");
        }
    }
    assert!(!shows(&of("shop/"), &fixture::oom_killed()));
}
