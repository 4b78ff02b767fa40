//! One question to Envoy's admin endpoint.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// It runs on this host.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer: some thousand hosts.
const LONGEST: u64 = 16 << 20;

/// The body of the answer to `GET path`.
///
/// # Errors
/// If there is none, or it is no success.
pub fn get(endpoint: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&endpoint, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    body(&answer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "it gave no answer of HTTP with status 200")
    })
}

/// What follows the head of a successful answer.
fn body(answer: &[u8]) -> Option<Vec<u8>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, body) = (answer.get(..end)?, answer.get(end + 4..)?);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split_ascii_whitespace().nth(1)?;
    if !head.starts_with("http/1.") || status != "200" {
        return None;
    }
    if head.lines().any(|line| line.starts_with("transfer-encoding:") && line.ends_with("chunked")) {
        return unchunked(body);
    }
    Some(body.to_vec())
}

/// The chunks of RFC 9112, section 7.1, together.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|bytes| bytes == b"\r\n")?;
        let size = std::str::from_utf8(body.get(..end)?).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        body = body.get(end + 2..)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_whole_or_in_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(body(plain).as_deref(), Some(&b"hello"[..]));
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
        assert_eq!(body(chunks).as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn what_is_no_success_is_no_body() {
        for answer in
            ["", "HTTP/1.1 403 Forbidden\r\n\r\nno", "HTTP/1.1 200 OK\r\nA: b", "SSH-2.0\r\n\r\n 200"]
        {
            assert_eq!(body(answer.as_bytes()), None, "{answer}");
        }
        let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhel";
        assert_eq!(body(cut), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            answer.extend(bytes);
            body(&answer);
        }
    }
}
