//! A recording judged again, with the same core, the same order and the same clock as when it was made.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::read::{Entry, Reader};
use super::{Answers, Header, ReadError, RecordedNames, Remark};
use crate::agent::Core;
use crate::output::VerdictView;
use crate::verdict::Verdict;

/// Gives the verdicts of a recording, one after the other.
#[derive(Debug)]
pub struct Replay<R> {
    reader: Reader<R>,
    header: Header,
    core: Core,
    answers: Answers,
    reset_reasons: BTreeMap<u32, String>,
}

impl<R: BufRead> Replay<R> {
    /// Reads the header; `name` is the file's, for messages.
    ///
    /// # Errors
    /// If there is no header, or one of a newer schema.
    pub fn new(input: R, name: &str) -> Result<Self, ReadError> {
        let (reader, header) = Reader::new(input, name)?;
        let core = Core::new(header.settings(), header.origin());
        let reset_reasons =
            header.reset_reasons.iter().map(|(name, number)| (*number, name.clone())).collect();
        Ok(Self { reader, header, core, answers: Answers::default(), reset_reasons })
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next verdict; None at the end.
    ///
    /// # Errors
    /// If a line is damaged.
    pub fn next_verdict(&mut self) -> Result<Option<(Verdict, VerdictView)>, ReadError> {
        while let Some(entry) = self.reader.next()? {
            match entry {
                Entry::Name(answer) => self.answers.learn(answer),
                Entry::Input(input) => {
                    let Some(verdict) = self.core.take(input) else { continue };
                    let names = RecordedNames { answers: &self.answers, reset_reasons: &self.reset_reasons };
                    let view = VerdictView::new(&verdict, &names, self.core.origin());
                    return Ok(Some((verdict, view)));
                }
            }
        }
        Ok(None)
    }

    /// What was passed over so far.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        self.reader.remarks()
    }
}
