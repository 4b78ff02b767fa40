//! Parts of documents that programs write: what stands between `<!-- NAME -->` and `<!-- /NAME -->`.

/// The text with something else between the two markers; None where they are not.
pub fn replaced(text: &str, name: &str, content: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{content}{end}{after}"))
}

/// The names that begin with this, in the order of the text.
pub fn names<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
    lines.filter(|name| name.starts_with(prefix)).collect()
}

#[cfg(test)]
mod tests {
    use super::{names, replaced};

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = "a\n<!-- board -->\nold\n<!-- /board -->\nb";
        let new = replaced(text, "board", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- board -->\nnew\n<!-- /board -->\nb");
        assert_eq!(replaced("no markers", "board", "new"), None);
    }

    #[test]
    fn markers_are_found_by_how_they_begin() {
        let text = "<!-- bench one -->\n<!-- /bench one -->\n<!-- other -->\n<!-- bench two -->\n";
        assert_eq!(names(text, "bench "), ["bench one", "bench two"]);
    }
}
