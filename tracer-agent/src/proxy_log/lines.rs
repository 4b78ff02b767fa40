//! The lines of a log, one at a time, whatever their length and their bytes.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

/// Longer lines are cut; the rest is passed over. nginx writes 2 KiB at most into its error log.
const LONGEST: usize = 64 * 1024;

/// Reads a log in bounded memory.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), number: 0 }
    }

    /// The next line without its end, and its number from 1 on. What is no UTF-8 is replaced.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Cow<'_, str>)>> {
        self.line.clear();
        let limit = LONGEST as u64;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        if read == LONGEST && self.line.last() != Some(&b'\n') {
            self.reader.skip_until(b'\n')?;
        }
        self.number += 1;
        let end = self.line.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
        Ok(Some((self.number, String::from_utf8_lossy(&self.line[..end]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &[u8]) -> Vec<(u64, usize)> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            found.push((number, line.chars().count()));
        }
        found
    }

    #[test]
    fn lines_end_in_all_the_usual_ways() {
        assert_eq!(lengths(b"one\ntwo\r\n\nfour"), [(1, 3), (2, 3), (3, 0), (4, 4)]);
        assert_eq!(lengths(b""), []);
        assert_eq!(lengths(b"a\xff\xfeb\n"), [(1, 4)]);
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_than_its_share_of_memory() {
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend(b"\nnext\n");
        assert_eq!(lengths(&text), [(1, LONGEST), (2, 4)]);
        let exactly = [vec![b'x'; LONGEST], b"\nnext".to_vec()].concat();
        assert_eq!(lengths(&exactly), [(1, LONGEST), (2, 4)]);
    }
}
