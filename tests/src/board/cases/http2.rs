//! HTTP/2 to the upstream, as gRPC speaks it, and websockets: connections on which bytes are no requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::go;
use crate::board::{Case, Stage};
use crate::client::Request;
use crate::netns::Link;
use crate::nginx::Certificate;

pub const CASES: &[Case] = &[
    Case::new("healthy", |stage| healthy(stage, "")),
    Case::new("healthy_and_kept", |stage| healthy(stage, "keepalive 4;")),
    Case::new("shutdown_in_flight", shutdown_in_flight),
    Case::new("stream_reset", stream_reset),
    Case::new("exits", exits),
    Case::new("killed", killed),
    Case::new("closed_with_a_goodbye", closed),
    Case::new("read_timeout_1s", |stage| read_timeout(stage, "1s")).over(Link::Tun),
    Case::new("read_timeout_2s", |stage| read_timeout(stage, "2s")).over(Link::Tun),
    Case::new("websocket_left_by_its_client", |stage| websocket(stage, "60s", b"hello", "")),
    Case::new("websocket_closed_by_its_server", |stage| websocket(stage, "60s", b"hello", "q")),
    Case::new("websocket_idle", |stage| websocket(stage, "1s", b"hello", "idle")),
    Case::new("websocket_whose_server_exits", |stage| websocket(stage, "60s", b"hello", FATAL)),
];

/// A message upon whose first byte the server exits. One of a few bytes would look like a goodbye that wants no answer.
const FATAL: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn start(stage: &mut Stage, pool: &str, directives: &str, arguments: &[&str]) -> Result<()> {
    let certificate = Certificate::create()?;
    let folder = certificate.folder().to_string_lossy();
    go::serve(stage, &[&["-tls", &folder], arguments].concat())?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "upstream tested {{ server {upstream} max_fails=0; {pool} }}\n\
         server {{ listen {gateway} http2; grpc_next_upstream off; {directives}\n\
         location / {{ grpc_pass grpcs://tested; }} }}"
    ))
}

/// Starts a call of one empty message.
fn start_call(stage: &Stage, path: &str) -> Result<Request> {
    let message = stage.write("message", "\0\0\0\0\0")?;
    let message = format!("@{}", message.display());
    let header = ["-H", "Content-Type: application/grpc", "-H", "TE: trailers"];
    stage
        .start_request(path, &[&["--http2-prior-knowledge", "--data-binary", &message], &header[..]].concat())
}

fn call(stage: &Stage, path: &str, status: u16) -> Result<()> {
    finish(stage, start_call(stage, path)?, status)
}

fn finish(stage: &Stage, call: Request, status: u16) -> Result<()> {
    let outcome = call.finish(Duration::from_secs(20))?;
    ensure!(outcome.status == status, "{outcome:?}, not {status}\n{}", stage.all_said());
    Ok(())
}

/// An idle connection ends with GOAWAY and a FIN.
fn healthy(stage: &mut Stage, pool: &str) -> Result<()> {
    start(stage, pool, "", &["-idle-timeout", "1s"])?;
    for path in ["/s/ok", "/s/slow?n=300", "/s/ok", "/s/ok", "/s/ok"] {
        call(stage, path, 200)?;
    }
    ensure!(stage.program("goserver")?.said().contains("HTTP/2.0 ok"), "{}", stage.all_said());
    stage.wait_for_the_end()
}

/// SIGTERM: GOAWAY at once, the answer when it is ready, then a FIN.
fn shutdown_in_flight(stage: &mut Stage) -> Result<()> {
    start(stage, "keepalive 4;", "", &[])?;
    call(stage, "/s/ok", 200)?;
    let request = start_call(stage, "/s/slow?n=1500")?;
    go::wait_for(stage, "slow")?;
    go::signal(stage, "TERM")?;
    finish(stage, request, 200)?;
    stage.wait_for_the_end()
}

/// RST_STREAM: the call fails, and the connection is none the worse.
fn stream_reset(stage: &mut Stage) -> Result<()> {
    start(stage, "keepalive 4;", "", &[])?;
    call(stage, "/s/ok", 200)?;
    // After a message, nginx now and then closes the connection over the frames with which the server opens its window again:
    // unread, which is told as `gateway_rejected_response`, and truly so.
    call_without_message(stage, "/s/abort")?;
    call(stage, "/s/ok", 200)
}

/// A call that fails, and has no message: after one, the server opens its window again, at a moment of its own.
fn call_without_message(stage: &Stage, path: &str) -> Result<()> {
    let outcome = stage.request(path, &["--http2-prior-knowledge"])?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn exits(stage: &mut Stage) -> Result<()> {
    start(stage, "keepalive 4;", "", &[])?;
    warm(stage)?;
    // After a message, frames that come before the end now and then are taken for the beginning of an answer: `closed_mid_response`.
    call_without_message(stage, "/s/exit?n=3")
}

/// Calls until a connection is kept. nginx closes one whose answer was complete before all of its own frames were
/// sent, and in the first moments of the next one the frames of both sides' settings pass for an exchange.
fn warm(stage: &Stage) -> Result<()> {
    for _ in 0..20 {
        call(stage, "/s/ok", 200)?;
        if stage.wait_for_quiet()? == 1 {
            return Ok(());
        }
    }
    bail!("nginx keeps no connection\n{}", stage.all_said())
}

fn hold(stage: &mut Stage) -> Result<Request> {
    warm(stage)?;
    let request = start_call(stage, "/s/hang")?;
    go::wait_for(stage, "hang")?;
    // A server that dies with a part of the request unread resets.
    stage.wait_for_quiet()?;
    Ok(request)
}

fn killed(stage: &mut Stage) -> Result<()> {
    start(stage, "keepalive 4;", "", &[])?;
    let request = hold(stage)?;
    go::signal(stage, "KILL")?;
    finish(stage, request, 502)
}

/// A stop that waits for nobody. TLS says close_notify before the FIN: bytes after the request, like an answer's.
fn closed(stage: &mut Stage) -> Result<()> {
    start(stage, "keepalive 4;", "", &["-at-term", "close"])?;
    let request = hold(stage)?;
    go::signal(stage, "TERM")?;
    finish(stage, request, 502)
}

/// A link with a delay: without one the server has closed because of nginx's close_notify before nginx has.
fn read_timeout(stage: &mut Stage, timeout: &str) -> Result<()> {
    stage.tun()?.delay(Duration::from_millis(20));
    start(stage, "keepalive 4;", &format!("grpc_read_timeout {timeout};"), &[])?;
    let request = hold(stage)?;
    finish(stage, request, 504)
}

/// A websocket whose bytes come back, and then its end: `last` is what the client says last (nothing: it leaves;
/// `idle`: it says nothing until the gateway's patience ends).
fn websocket(stage: &mut Stage, patience: &str, text: &[u8], last: &str) -> Result<()> {
    go::serve(stage, &[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; proxy_read_timeout {patience}; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";\n\
         location / {{ proxy_pass http://{upstream}; }} }}"
    ))?;
    let talk = || -> Result<()> {
        let mut socket = TcpStream::connect(gateway)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            socket,
            "GET /websocket HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).context("the handshake's answer")?;
            answer.extend(byte);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        for _ in 0..3 {
            socket.write_all(text)?;
            let mut echo = vec![0; text.len()];
            socket.read_exact(&mut echo).context("the echo")?;
            ensure!(echo == text, "the echo is {echo:?}");
        }
        // A message in the tick of the echo may have come before it, as far as the kernel's times say.
        thread::sleep(Duration::from_millis(50));
        match last {
            "" => return Ok(()),
            "idle" => {}
            letter => socket.write_all(letter.as_bytes())?,
        }
        let rest = socket.read(&mut [0; 16]).context("the end")?;
        ensure!(rest == 0, "{rest} more bytes");
        Ok(())
    };
    stage.net().gateway().enter(talk)??;
    stage.wait_for_the_end()
}
