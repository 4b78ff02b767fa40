use std::sync::atomic::AtomicUsize;

use super::*;
use crate::output::fixture;
use crate::verdict::{Cause, Impact};

fn everything() -> Filter {
    Filter { all: true, ..Filter::default() }
}

fn publish(hub: &Hub, count: usize) {
    let verdict = fixture::oom_killed();
    for _ in 0..count {
        hub.publish(&verdict, &fixture::shared(&verdict));
    }
}

fn now_or_never(subscription: &mut Subscription) -> Option<Item> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            biased;
            item = subscription.recv() => item,
            () = std::future::ready(()) => None,
        }
    })
}

fn drain(subscription: &mut Subscription) -> Vec<Option<u64>> {
    std::iter::from_fn(|| now_or_never(subscription))
        .map(|item| match item {
            Item::Verdict(_) => None,
            Item::Omitted(omitted) => Some(omitted.count),
        })
        .collect()
}

#[test]
fn a_reader_gets_what_it_asked_for() {
    let hub = Hub::default();
    let mut all = hub.subscribe("a", Filter::default(), 8).unwrap();
    let other = Filter { cause: vec![Cause::NoListener], ..Filter::default() };
    let mut none = hub.subscribe("b", other, 8).unwrap();
    publish(&hub, 2);
    assert_eq!(drain(&mut all), [None, None]);
    assert_eq!(drain(&mut none), []);
}

#[test]
fn a_slow_reader_is_told_what_it_missed_and_holds_up_nobody() {
    let hub = Hub::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    hub.on_dropped(move |sink| {
        assert_eq!(sink, "slow");
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut slow = hub.subscribe("slow", everything(), 2).unwrap();
    let mut quick = hub.subscribe("quick", everything(), 16).unwrap();
    publish(&hub, 5);
    assert_eq!(drain(&mut quick).len(), 5);
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
    assert_eq!(drain(&mut slow), [None, None, Some(3)]);
    publish(&hub, 1);
    assert_eq!(drain(&mut slow), [None]);
}

#[test]
fn the_count_comes_before_the_line_that_follows_the_gap() {
    let hub = Hub::default();
    let mut slow = hub.subscribe("slow", everything(), 3).unwrap();
    publish(&hub, 5);
    assert!(matches!(now_or_never(&mut slow), Some(Item::Verdict(_))));
    assert!(matches!(now_or_never(&mut slow), Some(Item::Verdict(_))));
    // Two places are free: one for the count of two, one for the line.
    publish(&hub, 1);
    assert_eq!(drain(&mut slow), [None, Some(2), None]);
    // Nothing is counted twice when there is room for the count only.
    publish(&hub, 5);
    assert!(matches!(now_or_never(&mut slow), Some(Item::Verdict(_))));
    publish(&hub, 1);
    assert_eq!(drain(&mut slow), [None, None, Some(2), Some(1)]);
}

#[test]
fn the_kernel_is_asked_for_healthy_ends_only_while_somebody_wants_them() {
    let hub = Hub::default();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    hub.on_all_ends(move |on| log.lock().unwrap().push(on));
    let plain = hub.subscribe("a", Filter::default(), 1).unwrap();
    assert!(!hub.wants_all());
    let first = hub.subscribe("b", everything(), 1).unwrap();
    let second = hub.subscribe("c", everything(), 1).unwrap();
    assert!(hub.wants_all());
    drop(first);
    assert!(hub.wants_all());
    drop(second);
    drop(plain);
    assert!(!hub.wants_all());
    assert_eq!(*asked.lock().unwrap(), [false, true, false]);
}

#[test]
fn readers_are_bounded_and_a_place_comes_free_again() {
    let hub = Hub::default();
    let mut readers: Vec<_> =
        (0..MAX_READERS).map(|_| hub.subscribe("a", everything(), 1).unwrap()).collect();
    assert_eq!(hub.subscribe("a", everything(), 1).unwrap_err(), TooManyReaders);
    readers.pop();
    assert!(hub.subscribe("a", everything(), 1).is_ok());
}

#[test]
fn harmless_ends_reach_only_those_who_want_all() {
    let hub = Hub::default();
    let mut plain = hub.subscribe("a", Filter::default(), 4).unwrap();
    let mut all = hub.subscribe("b", everything(), 4).unwrap();
    let verdict = Verdict { impact: Impact::None, cause: Cause::Graceful, ..fixture::oom_killed() };
    hub.publish(&verdict, &fixture::shared(&verdict));
    assert_eq!(drain(&mut plain), []);
    assert_eq!(drain(&mut all), [None]);
}
