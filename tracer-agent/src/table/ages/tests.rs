use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn upstream() -> Key {
    ("10.0.0.2:80".parse().expect("an address"), 1)
}

fn closing(at_ms: u64, age_ms: f64) -> Closing {
    Closing { ktime_ns: 100 * SECOND + at_ms * 1_000_000, wait: Wait::Upstream, age_ms, alive: false }
}

/// The repetition of the last of these.
fn last(closings: &[Closing]) -> Option<Repetition> {
    let mut ages = Ages::default();
    for closing in closings {
        ages.closed(upstream(), *closing);
    }
    ages.repetition(&upstream(), closings.last()?)
}

fn at(ages_ms: &[f64]) -> Vec<Closing> {
    (0..).zip(ages_ms).map(|(n, age)| closing(n * 1000, *age)).collect()
}

#[test]
fn the_third_of_one_age_repeats() {
    assert!(!last(&at(&[4000.0, 4004.0])).expect("two").repeats());
    let third = last(&at(&[4000.0, 700.0, 4004.0, 4100.0])).expect("three");
    let expected = Repetition {
        wait: Wait::Upstream,
        age_ms: 4100.0,
        alike: 3,
        of: 4,
        youngest_ms: 4000.0,
        middle_ms: 4004.0,
        oldest_ms: 4100.0,
        scattered: false,
    };
    assert_eq!(third, expected);
    assert!(third.repeats());
}

#[test]
fn ages_are_alike_within_five_per_cent_or_20_ms() {
    for (a, b, expected) in [
        (4000.0, 4200.0, true),
        (4000.0, 4220.0, false),
        (200.0, 220.0, true),
        (200.0, 221.0, false),
        (60_000.0, 63_000.0, true),
    ] {
        assert_eq!((alike(a, b), alike(b, a)), (expected, expected), "{a} and {b}");
    }
}

#[test]
fn closings_of_one_instant_count_as_one_unless_each_has_its_own_reason() {
    let together: Vec<_> = (0..5).map(|n| closing(n * 10, 4000.0)).collect();
    assert_eq!(last(&together).map(|r| (r.alike, r.of)), Some((1, 1)));
    let alive: Vec<_> = together.iter().map(|c| Closing { alive: true, ..*c }).collect();
    assert_eq!(last(&alive).map(|r| (r.alike, r.of)), Some((5, 5)));
}

#[test]
fn ages_at_random_do_not_repeat() {
    let ages: Vec<f64> = (1..=16).map(|n| f64::from(n) * 300.0).collect();
    let random = last(&at(&ages)).expect("the last");
    assert!(!random.repeats() && random.scattered, "{random:?}");
    let pair = last(&at(&[300.0, 900.0, 900.0])).expect("the last");
    assert!(!pair.scattered);
    assert!(!last(&at(&[300.0, 900.0])).expect("the last").scattered, "two may be two timeouts");
}

#[test]
fn an_age_that_came_twice_is_no_pattern_even_where_another_hides_it() {
    let mut closings = at(&[900.0, 1500.0, 4000.0, 4000.0]);
    closings[2].ktime_ns = closings[1].ktime_ns + 1;
    assert_eq!(last(&closings).map(|r| (r.alike, r.of, r.scattered)), Some((2, 3, false)));
}

#[test]
fn what_the_gateway_ended_says_nothing_of_the_upstream() {
    let mut closings = at(&[4000.0, 4000.0, 4000.0]);
    closings[0].wait = Wait::GatewayReading;
    assert_eq!(last(&closings).map(|r| (r.alike, r.of)), Some((2, 2)));
}

#[test]
fn what_is_closed_at_once_is_no_timeout() {
    assert_eq!(last(&at(&[3.0, 3.0, 3.0])), None);
}

#[test]
fn an_age_of_yesterday_is_forgotten() {
    let mut closings = at(&[4000.0, 4000.0, 4000.0]);
    closings[0].ktime_ns -= 99 * SECOND;
    closings[2].ktime_ns += TTL_NS - 10 * SECOND;
    assert_eq!(last(&closings).map(|r| r.alike), Some(2));
    let mut ages = Ages::default();
    ages.closed(upstream(), closings[0]);
    ages.expire(closings[0].ktime_ns + TTL_NS);
    assert_eq!(ages.fill().entries, 0);
}

#[test]
fn the_idle_limit_is_the_youngest_of_the_ages_that_repeat() {
    assert_eq!(idle_limit(&[5004.0, 5000.0]), None);
    assert_eq!(idle_limit(&[5004.0, 300.0, 5000.0, 5016.0, 900.0]), Some(5000.0));
    let two_hosts = [2000.0, 2000.0, 2000.0, 5000.0, 5000.0, 5000.0];
    assert_eq!(idle_limit(&two_hosts), Some(2000.0));
    assert_eq!(idle_limit(&[300.0, 900.0, 1500.0, 4000.0]), None);
}

proptest! {
    #[test]
    fn counts_never_exceed_what_is_remembered(
        closings in proptest::collection::vec((0_u64..2000, 0_f64..9000.0, any::<bool>()), 1..60),
    ) {
        let closings: Vec<_> =
            closings.iter().map(|(at, age, alive)| Closing { alive: *alive, ..closing(*at, *age) }).collect();
        if let Some(repetition) = last(&closings) {
            prop_assert!((1..=CLOSINGS).contains(&repetition.alike) && repetition.alike <= repetition.of);
            prop_assert!(repetition.of <= CLOSINGS && repetition.youngest_ms <= repetition.middle_ms);
            prop_assert!(!(repetition.scattered && repetition.repeats()));
        }
    }

    #[test]
    fn an_idle_limit_is_one_of_the_ages(ages in proptest::collection::vec(200_f64..100_000.0, 0..8)) {
        if let Some(limit) = idle_limit(&ages) {
            prop_assert!(ages.contains(&limit));
            prop_assert!(ages.iter().filter(|age| alike(**age, limit)).count() >= 1);
        }
    }
}
