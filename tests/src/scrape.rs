//! Reads `/metrics` over HTTP and finds samples by name and labels.
//! It reads the Prometheus text format as far as these tests need, strictly: a line it cannot read
//! is an error, not skipped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// One sample of one scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Scrapes the agent at `address`.
    ///
    /// # Errors
    /// When it does not answer with 200 and readable samples.
    pub fn of(address: SocketAddr) -> Result<Self> {
        let (status, body) = get(address, "/metrics")?;
        ensure!(status == 200, "/metrics answered {status}: {body}");
        Self::parse(&body)
    }

    /// Reads the text format.
    ///
    /// # Errors
    /// When a line is neither a comment nor a sample.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("unreadable sample {line:?}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// The sum of the samples with this name and all of these labels, 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// The samples with this name and all of these labels.
    pub fn matching<'a>(&'a self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name && labels.iter().all(|(key, value)| sample.label(key) == Some(*value))
        })
    }

    /// The samples that name this upstream, for messages.
    pub fn about(&self, upstream: &str) -> String {
        let samples = self.samples.iter().filter(|sample| sample.label("upstream") == Some(upstream));
        samples.map(|sample| format!("  {} {:?} {}\n", sample.name, sample.labels, sample.value)).collect()
    }
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A plain HTTP GET: the status and the body.
///
/// # Errors
/// When nobody answers or the answer is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0, so that the answer ends with the connection and is never chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the header")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: Vec::new(), value });
    };
    let labels = labels(rest.strip_suffix('}')?)?;
    Some(Sample { name: name.to_owned(), labels, value })
}

fn labels(mut text: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                (at, '"') => break at,
                (_, plain) => value.push(plain),
            }
        };
        labels.push((key.to_owned(), value));
        text = rest[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"q\\\"\\\\,\"} 2\na{x=\"1\",y=\"z\"} 3\nb 4.5\n";
        let scrape = Scrape::parse(text);
        let scrape = scrape.as_ref().ok();
        assert_eq!(scrape.map(|scrape| scrape.sum("a", &[("x", "1")])), Some(5.0));
        assert_eq!(scrape.map(|scrape| scrape.sum("a", &[("y", "q\"\\,")])), Some(2.0));
        assert_eq!(scrape.map(|scrape| scrape.sum("b", &[])), Some(4.5));
        assert_eq!(scrape.map(|scrape| scrape.sum("c", &[])), Some(0.0));
    }

    #[test]
    fn a_torn_sample_is_an_error() {
        for text in ["a{x=\"1\" 2", "a{x=1} 2", "a", "a b"] {
            assert!(Scrape::parse(text).is_err(), "{text}");
        }
    }
}
