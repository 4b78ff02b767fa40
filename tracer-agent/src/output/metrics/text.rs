//! The text format of Prometheus, as far as counters and gauges need it.
//!
//! The library's encoder wants every sample as a structure of its own first, with a copy of each label's name and value:
//! too much for the tens of thousands of samples that many upstreams have.

use std::fmt::{Display, Write as _};

use super::definitions::Definition;

/// What comes before the samples of a metric.
pub fn header(text: &mut String, definition: &Definition) {
    let Definition { name, kind, help, .. } = definition;
    let (kind, _) = kind.spelled();
    // Writing to a string cannot fail, and no help text of ours has anything to escape.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// One sample with its label values in the order of the definition.
pub fn sample(text: &mut String, definition: &Definition, values: &[String], value: f64) {
    text.push_str(definition.name);
    let mut before = '{';
    for (name, value) in definition.labels.iter().zip(values) {
        label(text, before, name, value);
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
    end(text, value);
}

/// A label, and what stands before it.
pub fn label(text: &mut String, before: char, name: &str, value: &str) {
    text.push(before);
    text.push_str(name);
    text.push_str("=\"");
    if value.contains(['\\', '"', '\n']) {
        for character in value.chars() {
            match character {
                '\\' => text.push_str(r"\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str(r"\n"),
                other => text.push(other),
            }
        }
    } else {
        text.push_str(value);
    }
    text.push('"');
}

/// The value of a sample, and the end of its line.
pub fn end(text: &mut String, value: impl Display) {
    let _ = writeln!(text, " {value}");
}

#[cfg(test)]
mod tests {
    use super::super::definitions::Name;
    use super::*;

    #[test]
    fn hostile_values_are_escaped_as_the_library_does() {
        let mut text = String::new();
        label(&mut text, '{', "comm", "a\"\\\n}é 1");
        assert_eq!(text, r#"{comm="a\"\\\n}é 1""#);
    }

    #[test]
    fn a_sample_has_braces_only_for_labels() {
        let mut text = String::new();
        sample(&mut text, Name::ProcessResident.definition(), &[], 1.5);
        sample(&mut text, Name::BuildInfo.definition(), &["0.1".to_owned()], 1.0);
        assert_eq!(text, "process_resident_memory_bytes 1.5\nrstrace_build_info{version=\"0.1\"} 1\n");
    }

    #[test]
    fn no_help_has_to_be_escaped() {
        assert!(Name::ALL.iter().all(|name| !name.definition().help.contains(['\\', '\n'])));
    }
}
