use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::event::Target;
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
    assert_eq!(drain(&mut slow), [None, None, Some(3)]);
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

/// Publishes a verdict on an upstream of its own.
fn publish_of(hub: &Hub, port: u16) -> String {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let verdict = Verdict { upstream: Some(Target::Tcp(upstream)), ..fixture::oom_killed() };
    hub.publish(&verdict, &fixture::shared(&verdict));
    upstream.to_string()
}

#[test]
fn a_flood_of_one_upstream_hides_no_other_from_a_reader_who_was_stopped() {
    let hub = Hub::default();
    let mut stopped = hub.subscribe("a", everything(), 64).unwrap();
    let mut quiet = Vec::new();
    for port in 1..=6 {
        publish(&hub, 1000);
        quiet.push(publish_of(&hub, port));
    }
    let items: Vec<_> = std::iter::from_fn(|| now_or_never(&mut stopped)).collect();
    let mut shown = Vec::new();
    let mut omitted = 0;
    for item in &items {
        match item {
            Item::Verdict(view) => shown.push(view.upstream.clone().unwrap_or_default()),
            Item::Omitted(gap) => omitted += usize::try_from(gap.count).unwrap(),
        }
    }
    assert_eq!(shown.iter().filter(|upstream| quiet.contains(upstream)).count(), 6, "{shown:?}");
    assert_eq!(shown.len() + omitted, 6 * 1000 + 6);
    assert!(items.len() <= 64, "{}", items.len());
}

#[test]
fn readers_who_were_stopped_keep_no_more_lines_than_the_bound() {
    let hub = Hub::default();
    let mut readers = Vec::new();
    for round in 0..MAX_READERS {
        readers.push(hub.subscribe("a", everything(), 4096).unwrap());
        publish(&hub, 300);
        for port in 1..=300 {
            publish_of(&hub, port + u16::try_from(round).unwrap() * 300);
        }
    }
    let waiting = hub.lock().waiting.load(Ordering::Relaxed);
    assert!(waiting <= MAX_WAITING, "{waiting}");
    assert!(waiting > MAX_WAITING / 2, "{waiting}");
    // The last one came when others had taken all that is common, and has its sure part.
    assert!(drain(readers.last_mut().unwrap()).len() > 64);
    drop(readers);
    assert_eq!(hub.lock().waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn what_the_kernel_lost_is_told_even_while_nothing_else_is() {
    let hub = Hub::default();
    let mut reader = hub.subscribe("a", Filter::default(), 8).unwrap();
    hub.miss(7, Why::RingFull);
    let expected = Omitted::new(7, Why::RingFull.text());
    assert_eq!(now_or_never(&mut reader), Some(Item::Omitted(expected)));
    assert_eq!(drain(&mut reader), []);
}

#[tokio::test]
async fn the_stream_ends_with_the_hub_and_not_before_its_last_line() {
    let hub = Hub::default();
    let mut reader = hub.subscribe("a", everything(), 8).unwrap();
    publish(&hub, 1);
    drop(hub);
    assert!(matches!(reader.recv().await, Some(Item::Verdict(_))));
    assert_eq!(reader.recv().await, None);
}
