use super::*;

#[test]
fn every_break_is_of_another_kind() {
    for (i, one) in BREAKS.iter().enumerate() {
        for other in &BREAKS[i + 1..] {
            assert_ne!(one.cause, other.cause);
            assert_ne!(one.ending, other.ending);
        }
    }
}

#[test]
fn only_all_of_them_is_a_success() {
    assert!(Outcome { broken: 7, right: 7 }.is_success());
    assert!(!Outcome { broken: 7, right: 6 }.is_success());
}
