//! Who is told by the Alertmanager: small stand-ins for a web-hook, for Slack, and for a mail server, which keep what they
//! are given.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// No sender of a test takes longer over one message.
const PATIENCE: Duration = Duration::from_secs(10);

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The path of an HTTP request; of a mail, to whom it is.
    pub to: String,
    pub body: String,
    pub at: Instant,
}

/// How a message comes.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http,
    Smtp,
}

/// Takes messages until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    over: Arc<AtomicBool>,
}

impl Receiver {
    /// Takes HTTP POSTs and answers each with `ok`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn web() -> Result<Self> {
        Self::web_on(TcpListener::bind("127.0.0.1:0")?)
    }

    /// The same where somebody listens already.
    ///
    /// # Errors
    /// When it does not say where.
    pub fn web_on(listener: TcpListener) -> Result<Self> {
        Self::start(Protocol::Http, listener)
    }

    /// Takes mails.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn mail() -> Result<Self> {
        Self::start(Protocol::Smtp, TcpListener::bind("127.0.0.1:0")?)
    }

    fn start(protocol: Protocol, listener: TcpListener) -> Result<Self> {
        let receiver =
            Self { address: listener.local_addr()?, messages: Arc::default(), over: Arc::default() };
        let (messages, over) = (receiver.messages.clone(), receiver.over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let messages = messages.clone();
                std::thread::spawn(move || {
                    let taken = match protocol {
                        Protocol::Http => post(&stream),
                        Protocol::Smtp => mail(&stream),
                    };
                    match taken {
                        Ok(message) => messages.lock().unwrap_or_else(PoisonError::into_inner).push(message),
                        Err(error) => eprintln!("a message that could not be read: {error:#}"),
                    }
                });
            }
        });
        Ok(receiver)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came until now.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread up, so that it sees that.
        let _ = TcpStream::connect(self.address);
    }
}

/// One request with a length, one answer.
fn post(stream: &TcpStream) -> Result<Message> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let to = first.split(' ').nth(1).with_context(|| format!("no request: {first:?}"))?.to_owned();
    let mut length = 0;
    loop {
        let header = line(&mut reader)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
    Ok(Message { to, body: String::from_utf8(body)?, at: Instant::now() })
}

/// One mail, as far as RFC 5321 wants it of everybody.
fn mail(stream: &TcpStream) -> Result<Message> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let (mut to, mut body, mut at) = (String::new(), String::new(), None);
    writer.write_all(b"220 here\r\n")?;
    loop {
        let command = line(&mut reader)?;
        let answer: &[u8] =
            match command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "DATA" => {
                    writer.write_all(b"354 go on\r\n")?;
                    loop {
                        let text = line(&mut reader)?;
                        if text == "." {
                            break;
                        }
                        body.push_str(&text);
                        body.push('\n');
                    }
                    at = Some(Instant::now());
                    b"250 taken\r\n"
                }
                "QUIT" => {
                    writer.write_all(b"221 bye\r\n")?;
                    let at = at.context("a mail server was called and told nothing")?;
                    return Ok(Message { to, body, at });
                }
                "RCPT" => {
                    to.push_str(command.split_once(':').map(|(_, to)| to).unwrap_or_default());
                    b"250 yes\r\n"
                }
                "EHLO" | "HELO" | "MAIL" => b"250 yes\r\n",
                other => bail!("not known here: {other}"),
            };
        writer.write_all(answer)?;
    }
}

fn line(reader: &mut BufReader<&TcpStream>) -> Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        bail!("closed in the middle of a message");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
