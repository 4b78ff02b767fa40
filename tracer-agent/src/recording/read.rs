//! Reads the lines of a recording. Total: whatever the bytes are, the result is a line, a remark or an error that
//! says where, what, and what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Read as _};

use serde::Deserialize;

use super::{Answer, Header, Line, SCHEMA};
use crate::agent::Input;
use crate::event::Event;
use crate::output::text::printable;

/// Longer lines are none of ours: the longest, the header, has some thousand bytes.
const LONGEST: u64 = 1 << 20;
/// Unknown kinds that are told apart; further ones are only counted.
const UNKNOWN_KINDS: usize = 16;

/// What the lines after the header say.
#[derive(Debug)]
pub(super) enum Entry {
    Input(Input),
    Name(Answer),
}

/// Takes a recording apart.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    /// The file, for messages.
    name: String,
    /// Number of the line that was read last.
    line: u64,
    buffer: Vec<u8>,
    remarks: Vec<Remark>,
    unknown: BTreeMap<String, u64>,
    unknown_more: u64,
}

/// Why a recording cannot be read any further.
#[derive(Debug)]
pub struct ReadError {
    name: String,
    line: u64,
    fault: Fault,
}

/// What is wrong with a line, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("it is empty: make a recording with `rstrace record FILE`")]
    Empty,
    #[error("no header, so this is no recording: make one with `rstrace record FILE`")]
    NoHeader,
    #[error("its header cannot be read ({0}): make the recording again")]
    Header(String),
    #[error(
        "recording of schema {found}, made by rstrace {version}, and this rstrace reads schema {SCHEMA}: replay it \
         with a newer one"
    )]
    Schema { found: u32, version: String },
    #[error("longer than any line of a recording: cut this line out to replay the rest")]
    TooLong,
    #[error("damaged ({0}): cut this line out to replay the rest")]
    Damaged(String),
    #[error("a second recording begins here: cut the file before this line and replay each part")]
    SecondHeader,
}

/// What is worth a line on standard error and stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    name: String,
    text: String,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub(super) fn new(input: R, name: &str) -> Result<(Self, Header), ReadError> {
        let mut reader = Self {
            input,
            name: printable(name).into_owned(),
            line: 0,
            buffer: Vec::new(),
            remarks: Vec::new(),
            unknown: BTreeMap::new(),
            unknown_more: 0,
        };
        if !reader.read_line()? {
            return Err(reader.error(Fault::Empty));
        }
        let header = header(&reader.buffer).map_err(|fault| reader.error(fault))?;
        Ok((reader, header))
    }

    /// The next line that says something; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        while self.read_line()? {
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            match parse(&self.buffer) {
                Ok(Parsed::Entry(entry)) => return Ok(Some(entry)),
                Ok(Parsed::Omitted(count)) => {
                    let line = self.line;
                    self.remark(format!(
                        "line {line}: {count} lines are missing, since the file could not be written fast enough: \
                         later verdicts may differ from those of the run"
                    ));
                }
                Ok(Parsed::Header) => return Err(self.error(Fault::SecondHeader)),
                Ok(Parsed::Unknown(kind)) => self.count_unknown(kind),
                Err(_) if self.buffer.last() != Some(&b'\n') => {
                    let line = self.line;
                    self.remark(format!(
                        "line {line}: cut off in the middle, passed over: the recording was interrupted"
                    ));
                }
                Err(error) => return Err(self.error(Fault::Damaged(spell(&error)))),
            }
        }
        Ok(None)
    }

    /// What was passed over so far.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        let mut remarks = self.remarks.clone();
        if !self.unknown.is_empty() {
            let lines = self.unknown.values().sum::<u64>() + self.unknown_more;
            let kinds: Vec<&str> = self.unknown.keys().map(String::as_str).collect();
            let text = format!(
                "{lines} lines passed over whose kind this rstrace does not know ({}): replay it with a newer one",
                kinds.join(", ")
            );
            remarks.push(Remark { name: self.name.clone(), text });
        }
        remarks
    }

    /// False at the end.
    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.buffer.clear();
        let read = (&mut self.input).take(LONGEST).read_until(b'\n', &mut self.buffer);
        let bytes = read.map_err(|e| self.error(Fault::Io(e)))?;
        self.line += u64::from(bytes > 0);
        if bytes as u64 == LONGEST && self.buffer.last() != Some(&b'\n') {
            return Err(self.error(Fault::TooLong));
        }
        Ok(bytes > 0)
    }

    fn remark(&mut self, text: String) {
        self.remarks.push(Remark { name: self.name.clone(), text });
    }

    fn count_unknown(&mut self, kind: String) {
        if self.unknown.len() >= UNKNOWN_KINDS && !self.unknown.contains_key(&kind) {
            self.unknown_more += 1;
        } else {
            *self.unknown.entry(kind).or_default() += 1;
        }
    }

    fn error(&self, fault: Fault) -> ReadError {
        ReadError { name: self.name.clone(), line: self.line, fault }
    }
}

#[expect(clippy::large_enum_variant, reason = "one at a time, and nearly all of them are entries")]
enum Parsed {
    Entry(Entry),
    Omitted(u64),
    Header,
    Unknown(String),
}

fn parse(line: &[u8]) -> Result<Parsed, serde_json::Error> {
    Ok(match serde_json::from_slice(line)? {
        Line::Name(answer) => Parsed::Entry(Entry::Name(*answer)),
        Line::QueueDrops(drops) => Parsed::Entry(Entry::Input(Input::Drops(drops))),
        Line::Settle { now_ns } => Parsed::Entry(Entry::Input(Input::Settle { now_ns })),
        Line::Tick { now_ns, clock_offset_ns } => {
            Parsed::Entry(Entry::Input(Input::Tick { now_ns, clock_offset_ns }))
        }
        Line::Omitted { count } => Parsed::Omitted(count),
        Line::Recording(_) => Parsed::Header,
        Line::Other => match serde_json::from_slice::<Event>(line) {
            Ok(event) => Parsed::Entry(Entry::Input(Input::Event(event))),
            Err(error) => Parsed::Unknown(unknown_kind(line, &error).ok_or(error)?),
        },
    })
}

/// The kind of a line, if that is what made it no event.
fn unknown_kind(line: &[u8], error: &serde_json::Error) -> Option<String> {
    let kind = serde_json::from_slice::<Head>(line).ok()?.kind;
    let unknown = error.to_string().starts_with(&format!("unknown variant `{kind}`"));
    unknown.then(|| printable(&kind).chars().take(64).collect())
}

/// The parser's words, without its count of lines: it was given one.
fn spell(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    printable(what).chars().take(200).collect()
}

#[derive(Deserialize)]
struct Head {
    kind: String,
}

fn header(line: &[u8]) -> Result<Header, Fault> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
        #[serde(default)]
        version: String,
    }
    match serde_json::from_slice::<Head>(line) {
        Ok(head) if head.kind == "recording" => {}
        _ => return Err(Fault::NoHeader),
    }
    let Version { schema, version } = serde_json::from_slice(line).map_err(|e| Fault::Header(spell(&e)))?;
    if schema > SCHEMA {
        return Err(Fault::Schema { found: schema, version: printable(&version).chars().take(64).collect() });
    }
    serde_json::from_slice(line).map_err(|e| Fault::Header(spell(&e)))
}

impl std::error::Error for ReadError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            fault @ (Fault::Empty | Fault::Io(_)) => write!(f, "{}: {fault}", self.name),
            fault => write!(f, "{}: line {}: {fault}", self.name, self.line),
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}
