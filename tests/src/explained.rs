//! What `rstrace explain` told of a log, in as few words as a test needs.

use anyhow::{Result, ensure};
use serde_json::Value;

/// Upstream, class of the message, cause of the verdict: what `rstrace explain --json` said of each failure.
#[must_use]
pub fn stories(lines: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let story =
        |line: &Value| (text(&line["upstream"]), text(&line["class"]), text(&line["verdict"]["cause"]));
    lines.iter().map(story).collect()
}

/// # Errors
/// When the stories are others.
pub fn expect(found: &[(String, String, String)], expected: &[(&str, &str, &str)]) -> Result<()> {
    let expected: Vec<_> =
        expected.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    ensure!(found == expected, "found    {found:#?}\nexpected {expected:#?}");
    Ok(())
}
