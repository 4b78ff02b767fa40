//! nginx's `log_format`: text with `$variables` in it, and the lines that it makes.

use std::str::FromStr;

/// What a `log_format` directive has between its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// Each variable with the text before it.
    variables: Vec<(String, String)>,
    /// After the last one.
    tail: String,
}

/// What is no usable format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFormatError {
    #[error("it needs $status and one of $msec, $time_iso8601 and $time_local")]
    Missing,
    #[error("between ${0} and the next variable stands nothing: where one ends cannot be told")]
    Joined(String),
}

impl LogFormat {
    /// The variables of a line with their values; None if it is of another form. A value ends where the text
    /// after it begins; nginx escapes quotes in values.
    #[must_use]
    pub fn fields<'a>(&'a self, line: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut fields = Vec::with_capacity(self.variables.len());
        let (first, _) = self.variables.first()?;
        // Something may stand before: a syslog's words.
        let mut rest = &line[line.find(first.as_str())? + first.len()..];
        for (index, (_, name)) in self.variables.iter().enumerate() {
            let after = self.variables.get(index + 1).map_or(&self.tail, |(text, _)| text);
            let end = if after.is_empty() { rest.len() } else { rest.find(after.as_str())? };
            fields.push((name.as_str(), &rest[..end]));
            rest = &rest[end + after.len()..];
        }
        Some(fields)
    }

    /// The same of a text that is known to be a format.
    pub(super) fn read(text: &str) -> Result<Self, LogFormatError> {
        let mut pieces = text.split('$');
        let mut before = pieces.next().unwrap_or_default().to_owned();
        let mut variables: Vec<(String, String)> = Vec::new();
        for piece in pieces {
            let (name, after) = match piece.strip_prefix('{').and_then(|piece| piece.split_once('}')) {
                Some(parts) => parts,
                None => {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    piece.split_at(piece.find(|c| !is_name(c)).unwrap_or(piece.len()))
                }
            };
            if let (true, Some((_, last))) = (before.is_empty(), variables.last()) {
                return Err(LogFormatError::Joined(last.clone()));
            }
            variables.push((before, name.to_owned()));
            before = after.to_owned();
        }
        Ok(Self { variables, tail: before })
    }
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, LogFormatError> {
        let format = Self::read(text)?;
        let has = |wanted: &str| format.variables.iter().any(|(_, name)| name == wanted);
        if has("status") && ["msec", "time_iso8601", "time_local"].into_iter().any(has) {
            Ok(format)
        } else {
            Err(LogFormatError::Missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_as_it_was_made() {
        let format: LogFormat =
            "$remote_addr [$time_local] \"${request}\" $status|$upstream_addr|".parse().unwrap();
        let line =
            "10.0.1.9 [21/Nov/2026:12:03:07 +0100] \"GET /a b HTTP/1.1\" 502|10.0.3.7:80, 10.0.3.8:80|";
        let fields = format.fields(line).unwrap();
        assert_eq!(fields[2], ("request", "GET /a b HTTP/1.1"));
        assert_eq!(fields[4], ("upstream_addr", "10.0.3.7:80, 10.0.3.8:80"));
        assert_eq!(format.fields(&format!("<190>Nov 21 gw nginx: {line}")).unwrap()[1..], fields[1..]);
        assert_eq!(format.fields("10.0.1.9 [21/Nov/2026:12:03:07 +0100] 502"), None);
    }

    #[test]
    fn what_says_too_little_is_refused() {
        assert_eq!("$remote_addr $request".parse::<LogFormat>(), Err(LogFormatError::Missing));
        assert_eq!("$msec$status".parse::<LogFormat>(), Err(LogFormatError::Joined("msec".to_owned())));
        assert!("$msec $status".parse::<LogFormat>().is_ok());
    }
}
