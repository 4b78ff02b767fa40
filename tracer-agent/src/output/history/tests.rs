use jiff::SignedDuration;

use super::*;
use crate::output::fixture;
use crate::output::selection::{Filter, Selection};
use crate::verdict::Cause;

fn history(capacity: usize, kept: i64) -> History {
    let mut history = History::new(capacity);
    for second in 0..kept {
        history.keep(&view(second));
    }
    history
}

fn view(second: i64) -> VerdictView {
    let mut view = fixture::view(&fixture::oom_killed());
    view.time = time(second);
    view.connection.cookie = u64::try_from(second).unwrap();
    view
}

fn time(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn span(since: Option<i64>, until: Option<i64>) -> Span {
    Span { since: since.map(time), until: until.map(time) }
}

fn cookies(history: &History, wanted: &Selection) -> Vec<u64> {
    let past = history.past(wanted.span);
    let text: String = past.blocks.iter().map(|block| block.lines(wanted).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str::<VerdictView>(line).unwrap().connection.cookie).collect()
}

#[test]
fn what_went_in_comes_out_byte_for_byte() {
    let history = history(1000, 600);
    let past = history.past(Span::default());
    assert_eq!(past.blocks.len(), 3);
    let text: String = past.blocks.iter().map(|b| b.lines(&Selection::default()).unwrap()).collect();
    let expected: String = (0..600).map(|second| view(second).to_json() + "\n").collect();
    assert_eq!(text, expected);
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let history = history(1000, 5000);
    let extent = history.extent();
    assert!((1000..1256).contains(&extent.kept), "{extent:?}");
    assert_eq!(extent.kept as u64 + extent.forgotten, 5000);
    assert_eq!(extent.oldest, Some(time(i64::try_from(extent.forgotten).unwrap())));
    let cookies = cookies(&history, &Selection::default());
    assert_eq!((cookies.len(), cookies.last()), (extent.kept, Some(&4999)));
}

#[test]
fn nothing_is_kept_if_nothing_may_be() {
    let extent = history(0, 3).extent();
    assert_eq!(extent, Extent { kept: 0, capacity: 0, oldest: None, forgotten: 3 });
}

#[test]
fn a_span_begins_at_its_first_moment_and_ends_before_its_last() {
    let history = history(1000, 600);
    let wanted = |since, until| Selection { span: span(since, until), ..Selection::default() };
    assert_eq!(cookies(&history, &wanted(Some(300), Some(303))), [300, 301, 302]);
    assert_eq!(cookies(&history, &wanted(Some(598), None)), [598, 599]);
    assert_eq!(cookies(&history, &wanted(None, Some(2))), [0, 1]);
    assert_eq!(history.past(span(Some(300), Some(303))).blocks.len(), 1);
}

#[test]
fn a_filter_picks_lines() {
    let mut history = history(1000, 300);
    let mut other = view(300);
    other.cause = Cause::NoListener;
    history.keep(&other);
    let filter = Filter { cause: vec![Cause::NoListener], ..Filter::default() };
    assert_eq!(cookies(&history, &Selection { filter, ..Selection::default() }), [300]);
}

#[test]
fn fifty_thousand_take_a_few_megabytes() {
    let mut history = History::default();
    for second in 0..50_000 {
        let mut view = view(second);
        // What differs between the verdicts of a real incident.
        let noise = second.wrapping_mul(0x9e37_79b9) % 60_000;
        view.local = Some(format!("10.0.1.2:{noise}"));
        view.connection.age_ms = Some(noise as f64 / 7.0);
        view.connection.since_request_ms = Some(noise as f64 / 11.0);
        view.summary = format!("nginx[812] lost a request {noise} ms old: php-fpm[4242] was OOM-killed");
        history.keep(&view);
    }
    assert!(history.bytes < 12 << 20, "{}", history.bytes);
}
