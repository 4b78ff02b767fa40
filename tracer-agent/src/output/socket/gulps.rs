//! The stream for a reader that takes many lines at once, and waits in between.
//!
//! It blocks, on a thread of its own: a socket that a runtime watches wakes its process for each line that is written,
//! whether or not somebody reads then.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::client::{BUFFER, Client, ClientError, understood, unreadable};
use super::{MAX_LINE, TOO_LONG};
use crate::output::view::Line;

/// The lines behind what a [`Client`] has asked for.
#[derive(Debug)]
pub struct Gulps {
    stream: BufReader<UnixStream>,
}

/// Ends the stream when it is dropped, and so the wait of whoever reads it.
#[derive(Debug)]
pub struct HangUp(UnixStream);

impl Drop for HangUp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Gulps {
    /// # Errors
    /// If the stream has broken.
    pub fn of(client: Client) -> Result<(Self, HangUp), ClientError> {
        let blocking = || -> io::Result<_> {
            // Nothing has been read before the first answer is waited for, so there is nothing in its buffer.
            let stream = client.into_inner().into_std()?;
            stream.set_nonblocking(false)?;
            let hang_up = HangUp(stream.try_clone()?);
            Ok((Self { stream: BufReader::with_capacity(BUFFER, stream) }, hang_up))
        };
        blocking().map_err(ClientError::Broken)
    }

    /// The next line, and those behind it that have come already; none if the agent has ended the stream.
    ///
    /// # Errors
    /// If the stream breaks, the agent refuses, or it speaks another version.
    pub fn next_lines(&mut self) -> Result<Vec<Line>, ClientError> {
        let mut lines = Vec::new();
        while lines.is_empty() || self.stream.buffer().contains(&b'\n') {
            let mut text = Vec::new();
            let mut most = (&mut self.stream).take(MAX_LINE);
            let length = most.read_until(b'\n', &mut text).map_err(ClientError::Broken)?;
            if text.pop() != Some(b'\n') {
                if length as u64 == MAX_LINE {
                    return Err(ClientError::Unreadable(TOO_LONG.to_owned()));
                }
                break;
            }
            let text = std::str::from_utf8(&text).map_err(|error| unreadable(&error))?;
            lines.push(understood(text)?);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gulps() -> (Gulps, UnixStream, HangUp) {
        let (ours, agents) = UnixStream::pair().unwrap();
        let hang_up = HangUp(ours.try_clone().unwrap());
        (Gulps { stream: BufReader::new(ours) }, agents, hang_up)
    }

    const LINE: &str = r#"{"schema":1,"kind":"omitted","count":3,"why":"slow reader"}"#;

    #[test]
    fn what_has_come_is_taken_at_once_and_half_a_line_waits() {
        let (mut gulps, mut agent, _hang_up) = gulps();
        write!(agent, "{LINE}\n{LINE}\n{}", &LINE[..20]).unwrap();
        assert_eq!(gulps.next_lines().unwrap().len(), 2);
        writeln!(agent, "{}", &LINE[20..]).unwrap();
        assert_eq!(gulps.next_lines().unwrap().len(), 1);
        drop(agent);
        assert_eq!(gulps.next_lines().unwrap().len(), 0, "it has ended");
    }

    #[test]
    fn what_is_no_line_of_this_version_is_said() {
        let (mut gulps, mut agent, _hang_up) = gulps();
        agent.write_all(b"{\"schema\":2,\"kind\":\"verdict\"}\n").unwrap();
        assert!(matches!(gulps.next_lines(), Err(ClientError::Unreadable(_))));
    }

    #[test]
    fn who_hangs_up_ends_the_wait() {
        let (mut gulps, _agent, hang_up) = gulps();
        let reader = std::thread::spawn(move || gulps.next_lines().unwrap().len());
        drop(hang_up);
        assert_eq!(reader.join().unwrap(), 0);
    }
}
