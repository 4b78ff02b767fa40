//! Text that came from elsewhere, made safe for a terminal.
//!
//! Processes choose their names and paths themselves: an escape sequence in one must not reach the terminal of
//! whoever watches, nor text that changes its direction.

use std::borrow::Cow;

/// Control characters, and the invisible ones that reorder or break a line.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// For a terminal: every hostile character as `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// For a line of JSON, where `serde_json` escapes only what the grammar demands. Outside of its strings JSON has
/// no such characters, so escaping them wherever they stand keeps the meaning.
#[must_use]
pub fn printable_json(json: String) -> String {
    if !json.contains(is_hostile) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_hostile(c) {
            // All of them are in the basic plane, so one escape of four digits says them.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_spelled_out() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("line\nbreak\u{9b}x\u{202e}y"), "line\\u{a}break\\u{9b}x\\u{202e}y");
        assert_eq!(printable("plain ünïcode"), "plain ünïcode");
    }

    proptest! {
        #[test]
        fn nothing_hostile_is_left_and_json_keeps_its_meaning(text in "\\PC*|[\\x00-\\u{3000}]*") {
            prop_assert!(!printable(&text).contains(is_hostile));
            let json = printable_json(serde_json::to_string(&text).unwrap());
            prop_assert!(!json.contains(is_hostile));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
