//! Holds `docs/causes.md` to the code: a section for each cause, in order, with names that exist.
//!
//! Tests only. Whether a section is true is beyond it; the tests on real servers say that.

use super::causes_page::{PAGE, Section, sections};
use super::{By, Cause, Impact};

/// The paragraphs of every section.
const LABELS: [&str; 5] = ["Meaning", "Logs", "Evidence", "Gateway alone", "Do"];

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// `list` is known names in backticks with commas between, and nothing else.
fn assert_names(section: &str, list: &str, is_known: impl Fn(&str) -> bool) {
    for item in list.split(", ") {
        let name = item.strip_prefix('`').and_then(|i| i.strip_suffix('`'));
        assert!(name.is_some_and(&is_known), "{section}: no such name, or not in backticks: {item}");
    }
}

#[test]
fn every_cause_has_its_section_in_the_order_of_the_code() {
    let headings: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("## `")).collect();
    let expected: Vec<String> = Cause::ALL.iter().map(|cause| format!("## `{cause}`")).collect();
    assert_eq!(headings, expected);
    assert_eq!(sections().len(), expected.len(), "a section has no line below its heading");
}

#[test]
fn the_first_line_of_a_section_names_by_and_impact() {
    for Section { name, first_line, .. } in sections() {
        let parts = first_line
            .strip_prefix("By ")
            .and_then(|l| l.strip_suffix('.'))
            .and_then(|l| l.split_once(". Impact "));
        let Some((by, impact)) = parts else {
            panic!("{name}: not \"By `…`. Impact `…`.\": {first_line}");
        };
        assert_names(name, by, |word| By::from_name(word).is_some());
        assert_names(name, impact, |word| Impact::from_name(word).is_some());
    }
}

#[test]
fn every_section_has_the_same_paragraphs() {
    for Section { name, items, .. } in sections() {
        let labels: Vec<_> =
            items.iter().filter_map(|i| i.strip_prefix("**")?.split_once(".** ")).map(|(l, _)| l).collect();
        assert_eq!(labels, LABELS, "{name}");
    }
}

#[test]
fn what_the_gateway_alone_cannot_tell_apart_are_causes() {
    for Section { name, items, .. } in sections() {
        for word in items.iter().filter(|i| i.starts_with("**Gateway alone.**")).flat_map(|i| quoted(i)) {
            assert!(Cause::from_name(word).is_some(), "{name}: no such cause: {word}");
        }
    }
}
