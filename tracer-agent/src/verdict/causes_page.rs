//! `docs/causes.md`, taken apart: a section for each cause.
//!
//! The page is part of the program, so that `rstrace explain` says the same. `causes_doc` holds it to the code.

use super::Cause;

pub(super) const PAGE: &str = include_str!("../../../docs/causes.md");

/// One section of the page, in its Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: &'static str,
    /// The line below the heading: by and impact.
    pub first_line: &'static str,
    pub(super) items: Vec<&'static str>,
}

/// The sections whose heading is a name in backticks; the preface has other headings.
pub(super) fn sections() -> Vec<Section> {
    PAGE.split("\n## ")
        .filter_map(|text| {
            let (name, rest) = text.strip_prefix('`')?.split_once("`\n")?;
            let (first_line, items) = rest.trim_start().split_once('\n')?;
            Some(Section { name, first_line, items: items.split("\n- ").skip(1).collect() })
        })
        .collect()
}

impl Section {
    /// What the page says of a cause.
    #[must_use]
    pub fn of(cause: Cause) -> Option<Self> {
        sections().into_iter().find(|section| section.name == cause.name())
    }

    /// The paragraphs with their labels.
    pub fn paragraphs(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.items.iter().filter_map(|item| item.strip_prefix("**")?.split_once(".** "))
    }

    /// The abbreviations of log lines that this section uses, with what they stand for.
    pub fn abbreviations(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let uses = |short: &str| {
            let mut words = self.items.iter().flat_map(|item| item.split(|c: char| !c.is_alphanumeric()));
            words.any(|word| word == short)
        };
        let defined = PAGE.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**: "));
        defined.filter(move |(short, _)| uses(short))
    }
}
