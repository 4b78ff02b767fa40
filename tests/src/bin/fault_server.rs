//! The upstream of the integration tests: an HTTP server that fails in the way the request asks for.
//!
//! `fault_server ADDR:PORT [--unread | --frozen LIMIT]` prints `listening` and then one line for each request read.
//! A line `exit N` on its standard input ends it with code N. With `--unread` it closes each
//! connection once a request has arrived and does not read it; with `--frozen` it listens with that limit of its accept
//! queue and never accepts; with `--echo` it is no HTTP server and gives everything back. It is one process with a thread for
//! each connection, so that the thread which dies and the process which owned the socket differ.

#![expect(clippy::print_stdout, reason = "the harness reads what this process did from its stdout")]

#[path = "fault_server/answers.rs"]
mod answers;

use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rstrace_tests::client::reset;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_default();
    let (option, limit) = (arguments.next(), arguments.next());
    let unread = option.as_deref() == Some("--unread");
    let echo = option.as_deref() == Some("--echo");
    let frozen = option.as_deref() == Some("--frozen");
    let listener = TcpListener::bind(&address)
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {address:?}: {error}")))?;
    if let Some(limit) = limit.and_then(|limit| limit.parse().ok()) {
        // SAFETY: the descriptor is open; listen(2) once more changes the limit and nothing else.
        unsafe { libc::listen(listener.as_raw_fd(), limit) };
    }
    println!("listening");
    std::thread::spawn(obey_stdin);
    if frozen {
        loop {
            std::thread::park();
        }
    }
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || match () {
            () if unread => close_unread(&stream),
            () if echo => answers::echo(stream),
            () => serve(stream),
        });
    }
    Ok(())
}

fn obey_stdin() {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        if let Some(code) = line.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
            std::process::exit(code);
        }
    }
}

/// Waits until something has arrived, which MSG_PEEK would count as a read by the application.
fn close_unread(stream: &TcpStream) {
    let mut wanted = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `wanted` is one valid pollfd for the duration of the call, and its descriptor is open.
    unsafe { libc::poll(&raw mut wanted, 1, 10_000) };
    println!("closing unread");
}

/// Serves requests on one connection until a fault or the peer ends it.
fn serve(mut stream: TcpStream) {
    while let Ok(Some((path, body))) = read_request(&mut stream) {
        println!("{path}");
        let asked = path.trim_start_matches('/').split('?').next().unwrap_or_default();
        let (name, argument) = asked.split_once('/').unwrap_or((asked, ""));
        let number: u64 = argument.parse().unwrap_or(0);
        match name {
            "segv" => segfault(),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(i32::try_from(number).unwrap_or(1)),
            "oom" => allocate_until_killed(),
            "hang" => loop {
                std::thread::park();
            },
            "fin" => return,
            "fin-after" => {
                std::thread::sleep(Duration::from_millis(number));
                return;
            }
            "reset" => return reset(stream),
            "partial-reset" => {
                answers::part(&mut stream);
                return reset(stream);
            }
            "partial-segv" => {
                answers::part(&mut stream);
                segfault();
            }
            "until-close" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello\n");
                return;
            }
            "slow" => std::thread::sleep(Duration::from_millis(number)),
            // The next read gives up when the connection has been idle for this long.
            "idle" => drop(stream.set_read_timeout(Some(Duration::from_millis(number)))),
            _ => {}
        }
        match answers::give(&mut stream, name, number, body) {
            Some(answers::Then::Serve) => continue,
            Some(answers::Then::Close) => return,
            Some(answers::Then::Echo) => return answers::echo(stream),
            None => {}
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").is_err() {
            return;
        }
    }
}

/// Reads up to the end of the header; gives the path and how much of the body came along, or `None` when the peer
/// closed.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<(String, u64)>> {
    let mut read = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            count => read.extend_from_slice(&buffer[..count]),
        }
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = u64::try_from(read.len() - end - 4).unwrap_or(0);
            let text = String::from_utf8_lossy(&read[..end]);
            return Ok(text.split_whitespace().nth(1).map(|path| (path.to_owned(), body)));
        }
    }
}

/// A fault by the processor, not a signal that somebody sent: a write to a page that forbids it.
fn segfault() {
    // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing of ours.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    // SAFETY: none is claimed; this access faults, and the process ends by it.
    unsafe { page.cast::<u8>().write_volatile(1) };
}

fn allocate_until_killed() {
    let mut hoard = Vec::new();
    loop {
        // Ones, because the kernel gives no memory for zeroes that nobody wrote.
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}
