//! Reads what Rust's test harness prints.

/// What all the harnesses of one run counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
}

/// Adds up the lines `test result: ok. 3 passed; 1 failed; …`; each harness prints one, unless it died.
pub fn counts(log: &str) -> Counts {
    let mut counts = Counts::default();
    for result in log.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        counts.passed += count_of(result, "passed");
        counts.failed += count_of(result, "failed");
    }
    counts
}

fn count_of(result: &str, what: &str) -> u32 {
    // The first part starts with the verdict: "ok. 3 passed".
    let parts = result.split([';', '.']).map(str::trim);
    let count = parts.filter_map(|part| part.strip_suffix(what)).next();
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// How many tests the output of `--list` names.
pub fn listed(output: &str) -> usize {
    output.lines().filter(|line| line.ends_with(": test")).count()
}

/// The part of a log that says what failed, at most `limit` lines of it: the names of the failed tests and what
/// they printed, or the end of the log of a run that failed otherwise.
pub fn failing_part(log: &str, limit: usize) -> String {
    let lines: Vec<_> = log.lines().collect();
    let mut part: Vec<_> = lines.iter().copied().filter(|line| is_failed_test(line)).collect();
    if part.is_empty() {
        return lines[lines.len().saturating_sub(limit)..].join("\n");
    }
    let mut inside = false;
    for line in lines {
        // "failures:" stands before what the tests printed, and again before the list of their names.
        inside = (inside || line == "failures:") && !line.starts_with("test result: ");
        if (inside && !is_frame(line)) || line.starts_with("error") {
            part.push(line);
        }
    }
    let cut = part.len().saturating_sub(limit);
    part.truncate(limit);
    let mut text = part.join("\n");
    if cut > 0 {
        text.push_str(&format!("\n… and {cut} lines more"));
    }
    text
}

fn is_failed_test(line: &str) -> bool {
    line.starts_with("test ") && line.ends_with(" ... FAILED")
}

/// Whether this line belongs to a backtrace, which would hide the rest: `12: name` and `at file:line:column`.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    let numbered = text.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    text.len() < line.len() && (numbered || text.starts_with("at "))
}

#[cfg(test)]
mod tests {
    use super::{Counts, counts, failing_part, listed};

    const LOG: &str = "\
running 2 tests
test a ... ok
test b ... FAILED

failures:

---- b stdout ----
thread 'b' panicked at src/lib.rs:3:5:
left: 1
stack backtrace:
   0: core::panicking::panic_fmt
             at /rustc/library/core/src/panicking.rs:80:14

failures:
    b

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: test failed, to rerun pass `--lib`
running 3 tests
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out; finished in 12.50s
";

    #[test]
    fn the_results_of_all_harnesses_add_up() {
        assert_eq!(counts(LOG), Counts { passed: 4, failed: 1 });
        assert_eq!(counts("error: could not compile `tracer-agent`\n"), Counts::default());
        assert_eq!(counts("test result: ok. many passed; 1 failed"), Counts { passed: 0, failed: 1 });
    }

    #[test]
    fn a_list_counts_tests_and_nothing_else() {
        assert_eq!(listed("a: test\nb::c: test\nd: benchmark\n\n2 tests, 1 benchmark\n"), 2);
    }

    #[test]
    fn the_failing_part_is_what_failed_tests_printed() {
        let part = failing_part(LOG, 100);
        assert!(part.starts_with("test b ... FAILED\nfailures:\n\n---- b stdout"), "{part}");
        assert!(part.contains("left: 1") && !part.contains("test a ... ok"), "{part}");
        assert!(!part.contains("panic_fmt") && !part.contains("/rustc/"), "{part}");
        assert_eq!(failing_part(LOG, 2), "test b ... FAILED\nfailures:\n… and 10 lines more");
    }

    #[test]
    fn without_failed_tests_the_end_of_the_log_is_shown() {
        assert_eq!(failing_part("one\ntwo\nthree", 2), "two\nthree");
        assert_eq!(failing_part("", 2), "");
    }
}
