//! The page that shows verdicts in a browser: one document with its script, its style and, without an agent, its data
//! in it. It asks nobody else for anything.
//!
//! Names that processes choose are data here: the script sets them as text, and a document that embeds them escapes
//! what could end its data block.

use std::hash::{BuildHasher as _, RandomState};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One scope, in this order.
const SCRIPTS: [&str; 6] = [
    include_str!("words.js"),
    include_str!("model.js"),
    include_str!("table.js"),
    include_str!("detail.js"),
    include_str!("report.js"),
    include_str!("main.js"),
];

/// What a page may do: run its own script and style, which bear the nonce, and talk to `connect`.
#[must_use]
pub fn policy(nonce: &str, connect: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src \
         {connect}; base-uri 'none'; form-action 'none'"
    )
}

/// The page of an agent, which reads its data from there. Its policy belongs into the headers.
#[must_use]
pub fn served(nonce: &str) -> String {
    filled("", "", nonce)
}

/// A page for a file: `report` is JSON or empty, the lines are verdicts of the contract.
#[must_use]
pub fn standalone<'a>(report: &str, verdict_lines: impl IntoIterator<Item = &'a str>) -> String {
    // Nobody who chose a name in the data could know it.
    let nonce = format!("{:016x}", RandomState::new().hash_one(0));
    let policy =
        format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">", policy(&nonce, "'none'"));
    let report = if report.is_empty() { "null" } else { report };
    let mut data =
        format!("<script type=\"application/json\" id=\"data\">\n{{\"report\":{}", escaped(report));
    data.push_str(",\"verdicts\":[");
    for (index, line) in verdict_lines.into_iter().enumerate() {
        data.push_str(if index == 0 { "\n" } else { ",\n" });
        data.push_str(&escaped(line));
    }
    data.push_str("\n]}\n</script>");
    filled(&policy, &data, &nonce)
}

/// JSON in which no tag can begin: outside of its strings it has no such character.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// The data comes last, so that nothing in it is taken for a place to fill.
fn filled(head: &str, data: &str, nonce: &str) -> String {
    let script = format!("'use strict';\n{}", SCRIPTS.concat());
    let page = PAGE.replace("{{head}}", head).replace("{{style}}", STYLE).replace("{{script}}", &script);
    page.replace("{{nonce}}", nonce).replacen("{{data}}", data, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture;
    use crate::verdict::Verdict;

    #[test]
    fn a_page_asks_nobody_else_for_anything() {
        let page = served("abc");
        assert!(!page.contains("{{"), "{page}");
        assert!(page.starts_with("<!doctype html>"));
        assert_eq!(page.matches("nonce=\"abc\"").count(), 2);
        for (from, what) in [("src=", "another file"), ("@import", "another file"), ("url(", "another file")]
        {
            assert!(!page.contains(from), "{what} through {from}");
        }
        // The one address in it is the name of a language, and is not asked.
        assert_eq!(page.matches("http").count(), page.matches("http://www.w3.org/2000/svg").count());
        assert_eq!(page.matches("</script").count(), 1);
    }

    #[test]
    fn names_are_only_ever_set_as_text() {
        let scripts = SCRIPTS.concat();
        for hostile in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("] {
            assert!(!scripts.contains(hostile), "{hostile}");
        }
    }

    #[test]
    fn a_hostile_name_stays_within_the_data() {
        let hostile = "</script><script>alert(1)</script><!-- {{script}} {{nonce}}";
        let verdict = Verdict { summary: hostile.to_owned(), ..fixture::oom_killed() };
        let line = fixture::view(&verdict).to_json();
        let page = standalone("{\"note\":\"</script>\"}", [line.as_str(), line.as_str()]);
        assert_eq!(page.matches("</script").count(), 2, "{page}");
        assert!(!page.contains("<!--") && page.contains("http-equiv=\"Content-Security-Policy\""));
        let data = page.split("id=\"data\">").nth(1).unwrap().split("</script").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["report"]["note"], "</script>");
        assert_eq!(data["verdicts"][1]["summary"], hostile);
    }

    #[test]
    fn a_page_without_a_report_has_its_verdicts() {
        let page = standalone("", []);
        assert!(page.contains("{\"report\":null,\"verdicts\":[\n]}"));
    }
}
