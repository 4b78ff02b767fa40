//! Reads the results out of a machine's console, where `vm_init` prints `vm: ok NAME`,
//! `vm: FAIL NAME: why` and at last `vm: done N passed, N failed`.
//!
//! Only a machine that came to that last line, with the same counts, has passed anything for sure.

use std::process::ExitStatus;

const PREFIX: &str = "vm: ";

/// What a machine said until its end.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: u32,
    failures: u32,
    /// The counts of the last line, once it was seen.
    done: Option<(u32, u32)>,
    end: End,
}

#[derive(Debug, Default)]
enum End {
    #[default]
    Running,
    Ended(ExitStatus),
    GaveUp,
}

impl Report {
    /// Takes one line of the console; gives the part worth showing, if it is a result.
    pub fn read<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        // The firmware and the kernel leave control sequences at the start of a line.
        let result = &line[line.find(PREFIX)?..];
        let text = &result[PREFIX.len()..];
        if text.starts_with("ok ") {
            self.passed += 1;
        } else if text.starts_with("FAIL ") {
            self.failures += 1;
        } else if let Some(counts) = text.strip_prefix("done ") {
            self.done = self.done.or_else(|| counts_of(counts));
        }
        Some(result)
    }

    /// The machine ended by itself.
    pub fn ended(&mut self, status: ExitStatus) {
        self.end = End::Ended(status);
    }

    /// The deadline passed first.
    pub fn gave_up(&mut self) {
        self.end = End::GaveUp;
    }

    /// Scenarios that failed, and one more for a machine that did not come to its last line.
    pub fn failed(&self) -> u32 {
        self.failures + u32::from(self.fault().is_some())
    }

    /// What is wrong with the run as a whole.
    pub fn fault(&self) -> Option<String> {
        match (self.done, &self.end) {
            (Some(counts), _) if counts == (self.passed, self.failures) => None,
            (Some((passed, failed)), _) => {
                let (read, lost) = (self.passed, self.failures);
                Some(format!(
                    "it counted {passed} passed and {failed} failed, its console shows {read} and {lost}"
                ))
            }
            (None, End::Ended(status)) => Some(format!("it ended ({status}) before its last line")),
            (None, End::Running | End::GaveUp) => Some("it did not come to its last line in time".to_owned()),
        }
    }
}

fn counts_of(text: &str) -> Option<(u32, u32)> {
    let (passed, failed) = text.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::Report;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.read(line);
        }
        report
    }

    #[test]
    fn a_machine_that_comes_to_its_end_has_its_counts() {
        let report =
            report(&["\u{1b}[2Jvm: ok one", "noise", "vm: FAIL two: why", "vm: done 1 passed, 1 failed"]);
        assert_eq!((report.passed, report.failed(), report.fault()), (1, 1, None));
    }

    #[test]
    fn a_machine_that_stops_early_has_failed() {
        assert_eq!(report(&["vm: ok one"]).failed(), 1);
    }

    #[test]
    fn a_line_that_got_lost_is_a_failure() {
        let report = report(&["vm: ok one", "vm: done 2 passed, 0 failed"]);
        assert_eq!(report.failed(), 1, "{:?}", report.fault());
    }
}
