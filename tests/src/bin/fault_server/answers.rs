//! The answers that are more than `200 hello`: odd ones, broken ones, large ones. What becomes of the connection is
//! said, not done.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What becomes of the connection after an answer.
pub enum Then {
    Serve,
    Close,
    Echo,
}

/// Gives the answer of this name, with `number` as its argument; `body` bytes of the request's body were read with its
/// header. `None` for a name that is none of these, and for a peer that is gone.
pub fn give(stream: &mut TcpStream, name: &str, number: u64, body: u64) -> Option<Then> {
    let (text, then): (&[u8], Then) = match name {
        "204" => (b"HTTP/1.1 204 No Content\r\n\r\n", Then::Serve),
        "304" => (b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", Then::Serve),
        "continue" => {
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n", Then::Serve)
        }
        "chunked" => {
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n0\r\n\r\n", Then::Serve)
        }
        "websocket" => {
            (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", Then::Echo)
        }
        "closing" => {
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n", Then::Close)
        }
        "accel" => (b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /here\r\nContent-Length: 0\r\n\r\n", Then::Serve),
        // The body of the request stays unread.
        "early" => {
            std::thread::sleep(Duration::from_millis(number));
            let text =
                b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 6\r\n\r\nlarge\n";
            (text, Then::Close)
        }
        // No header's name may have a NUL in it.
        "bad-header" => {
            (b"HTTP/1.1 200 OK\r\nBro\0ken: yes\r\nContent-Length: 6\r\n\r\nhello\n", Then::Serve)
        }
        "bad-chunk" => {
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\nxyz\r\n", Then::Serve)
        }
        "garbage" => (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Then::Close),
        "partial-fin" => {
            part(stream);
            return Some(Then::Close);
        }
        "big-header" => {
            let filler = "x".repeat(usize::try_from(number).unwrap_or(0));
            let text = format!("HTTP/1.1 200 OK\r\nX-Filler: {filler}\r\nContent-Length: 6\r\n\r\nhello\n");
            return stream.write_all(text.as_bytes()).ok().map(|()| Then::Serve);
        }
        "error" => {
            let body = "x".repeat(usize::try_from(number).unwrap_or(0));
            let text = format!("HTTP/1.1 500 Oops\r\nContent-Length: {number}\r\n\r\n{body}");
            return stream.write_all(text.as_bytes()).ok().map(|()| Then::Serve);
        }
        "big" => return large(stream, number).ok().map(|()| Then::Serve),
        "upload" => {
            io::copy(&mut stream.take(number.saturating_sub(body)), &mut io::sink()).ok()?;
            (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n", Then::Serve)
        }
        _ => return None,
    };
    stream.write_all(text).ok().map(|()| then)
}

/// 2,000 of 100,000 bytes.
pub fn part(stream: &mut TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    let _ = stream.write_all(head).and_then(|()| stream.write_all(&[b'x'; 2000]));
    // A RST throws away what the reader has not read yet: leave the gateway the time to read it, on a busy machine too.
    std::thread::sleep(Duration::from_millis(400));
}

fn large(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())?;
    io::copy(&mut io::repeat(b'x').take(bytes), stream).map(drop)
}

/// Gives everything back, and says goodbye when the peer has said all.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = [0_u8; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if stream.write_all(&buffer[..count]).is_ok() => {}
            _ => return,
        }
    }
    let _ = stream.write_all(b"bye\n");
}
