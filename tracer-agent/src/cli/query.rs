//! The filter options as the query of a URL: the words, their spelling and what is said of wrong ones are those of
//! the command line.

use clap::Parser;

use super::{FilterArgs, Netns, now};
use crate::output::selection::Selection;

/// What may be asked for. `all` and `gateway` are not: they make the agent take more from the kernel.
const WORDS: [&str; 10] =
    ["since", "until", "upstream", "by", "cause", "impact", "process", "container", "pod", "netns"];

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Query {
    #[command(flatten)]
    filter: FilterArgs,
}

/// The selection that those pairs of a word and its value mean; an empty value counts as none.
///
/// # Errors
/// One line that says which word cannot be read, and why.
pub fn selection_of(pairs: &[(String, String)]) -> Result<Selection, String> {
    let mut arguments = Vec::new();
    for (word, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if !WORDS.contains(&word.as_str()) {
            let word: String = word.escape_debug().take(40).collect();
            return Err(format!("`{word}` is no filter: {} are", WORDS.join(", ")));
        }
        arguments.push(format!("--{word}={value}"));
    }
    let Query { filter } = Query::try_parse_from(arguments).map_err(|error| one_line(&error))?;
    let inum = |netns: &Netns| match netns {
        Netns::Inum(inum) => Ok(*inum),
        // Whoever reads the page has no business with the files of the agent's host.
        Netns::Path(_) => Err("netns: give the inode number of the network namespace".to_owned()),
    };
    let netns = filter.netns.iter().map(inum).collect::<Result<_, _>>()?;
    let span = filter.span(&now()).map_err(|error| error.to_string())?;
    Ok(Selection { filter: filter.filter(netns), span })
}

/// What clap says, without how to get help in a terminal.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{By, Cause};

    fn selection(query: &[(&str, &str)]) -> Result<Selection, String> {
        let pairs: Vec<_> =
            query.iter().map(|(word, value)| ((*word).to_owned(), (*value).to_owned())).collect();
        selection_of(&pairs)
    }

    #[test]
    fn the_words_mean_what_they_mean_on_the_command_line() {
        let read = selection(&[
            ("upstream", "10.0.0.0/8,unix:/run/a b.sock"),
            ("by", "upstream"),
            ("cause", "oom_killed,no_listener"),
            ("impact", ""),
            ("process", "php-fpm"),
            ("container", "3f2a"),
            ("netns", "4026531840"),
            ("since", "15m"),
        ])
        .unwrap();
        assert_eq!(read.filter.upstream.len(), 2);
        assert_eq!(read.filter.by, [By::Upstream]);
        assert_eq!(read.filter.cause, [Cause::OomKilled, Cause::NoListener]);
        assert_eq!(read.filter.netns, [4_026_531_840]);
        assert!(read.span.since.is_some() && read.filter.impact.is_empty() && !read.filter.all);
        assert_eq!(selection(&[]), Ok(Selection::default()));
    }

    #[test]
    fn a_wrong_word_is_said_in_one_line() {
        for (word, value, expected) in [
            ("cause", "oom", "oom"),
            ("upstream", "nowhere", "`nowhere` is no upstream"),
            ("since", "yesterday", "15m (ago)"),
            ("netns", "/proc/1/ns/net", "inode number"),
            ("all", "true", "`all` is no filter"),
            ("help", "x", "is no filter"),
            ("by", "--all", "--all"),
        ] {
            let error = selection(&[(word, value)]).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{word}={value}: {error}");
        }
        assert!(selection(&[("since", "5m"), ("until", "15m")]).unwrap_err().contains("--until"));
    }
}
