//! How a task that checks several things went.

use std::fmt;
use std::ops::AddAssign;

/// Counts of what was checked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub passed: u32,
    pub failed: u32,
}

impl Outcome {
    /// One check, which passed or failed as a whole.
    pub fn of_one(passed: bool) -> Self {
        Self { passed: u32::from(passed), failed: u32::from(!passed) }
    }

    /// Whether all is well: something was checked, and nothing failed.
    pub fn is_success(self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The last line of `xtask test`, which scripts read.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn nothing_checked_is_no_success() {
        assert!(!Outcome::default().is_success());
        assert!(Outcome::of_one(true).is_success());
        assert!(!Outcome { passed: 9, failed: 1 }.is_success());
    }

    #[test]
    fn the_last_line_is_plain() {
        assert_eq!(Outcome { passed: 12, failed: 1 }.to_string(), "12 passed, 1 failed");
    }
}
