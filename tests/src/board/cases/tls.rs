//! TLS between nginx and the upstream. Session tickets are read after a request was written, close_notify is written
//! after its answer was read: bytes alone say little.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::go;
use crate::board::{Case, Stage};
use crate::netns::Link;
use crate::nginx::{Certificate, Nginx};

pub const CASES: &[Case] = &[
    Case::new("healthy_tls12", |stage| healthy(stage, "TLSv1.2")),
    Case::new("healthy_tls13", |stage| healthy(stage, "TLSv1.3")).over(Link::Routed),
    Case::new("healthy_and_kept_tls12", |stage| healthy_and_kept(stage, "TLSv1.2")),
    Case::new("healthy_and_kept_tls13", |stage| healthy_and_kept(stage, "TLSv1.3")),
    Case::new("killed_on_a_new_connection", |stage| killed(stage, "")),
    Case::new("killed_on_a_used_connection", |stage| killed(stage, "keepalive 4;")),
    Case::new("exits", exits),
    Case::new("hangs_up_in_the_handshake", hangs_up_in_the_handshake),
    Case::new("certificate_refused", certificate_refused),
    Case::new("version_refused", version_refused),
    Case::new("not_tls", not_tls),
];

/// nginx that speaks TLS to the upstream, with a pool or without, and further directives.
fn start_gateway(stage: &mut Stage, pool: &str, directives: &str) -> Result<()> {
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "upstream tested {{ server {upstream} max_fails=0; {pool} }}\n\
         server {{ listen {gateway}; proxy_next_upstream off; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"{}\"; {directives}\n\
         location / {{ proxy_pass https://tested; }} }}",
        if pool.is_empty() { "close" } else { "" }
    ))
}

fn serve(stage: &mut Stage, certificate: &Path) -> Result<()> {
    go::serve(stage, &["-tls", &certificate.to_string_lossy(), "-idle-timeout", "1s"])
}

/// The order of close_notify, FIN and RST is a race: see many.
fn healthy(stage: &mut Stage, version: &str) -> Result<()> {
    let certificate = Certificate::create()?;
    let _upstream = Nginx::serve_tls(stage.net().upstream(), stage.upstream(), &certificate)?;
    start_gateway(stage, "", &format!("proxy_ssl_protocols {version};"))?;
    for _ in 0..20 {
        stage.demand("/", 200)?;
    }
    stage.wait_for_the_end()
}

/// Twice, so that the second connection takes the session of the first; nginx as the server, and then Go.
fn healthy_and_kept(stage: &mut Stage, version: &str) -> Result<()> {
    let certificate = Certificate::create()?;
    start_gateway(stage, "keepalive 4;", &format!("proxy_ssl_protocols {version};"))?;
    let upstream = Nginx::serve_tls(stage.net().upstream(), stage.upstream(), &certificate)?;
    uses_and_leaves(stage)?;
    drop(upstream);
    serve(stage, certificate.folder())?;
    uses_and_leaves(stage)
}

fn uses_and_leaves(stage: &Stage) -> Result<()> {
    for _ in 0..2 {
        for _ in 0..5 {
            stage.demand("/", 200)?;
        }
        stage.wait_for_the_end()?;
    }
    Ok(())
}

fn killed(stage: &mut Stage, pool: &str) -> Result<()> {
    let certificate = Certificate::create()?;
    serve(stage, certificate.folder())?;
    start_gateway(stage, pool, "")?;
    stage.demand("/", 200)?;
    let request = stage.start_request("/hang", &[])?;
    go::wait_for(stage, "hang")?;
    go::signal(stage, "KILL")?;
    let outcome = request.finish(Duration::from_secs(10))?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn exits(stage: &mut Stage) -> Result<()> {
    let certificate = Certificate::create()?;
    serve(stage, certificate.folder())?;
    start_gateway(stage, "keepalive 4;", "")?;
    stage.demand("/", 200)?;
    stage.demand("/exit?n=3", 502)
}

fn hangs_up_in_the_handshake(stage: &mut Stage) -> Result<()> {
    go::serve(stage, &["-raw", "hang-up"])?;
    start_gateway(stage, "", "")?;
    stage.demand("/", 502)
}

/// nginx looks at the certificate when the handshake has ended, so all that came has been read.
fn certificate_refused(stage: &mut Stage) -> Result<()> {
    let (certificate, trusted) = (Certificate::create()?, Certificate::create()?);
    serve(stage, certificate.folder())?;
    let trusted = trusted.folder().join("cert.pem");
    let directives = format!(
        "proxy_ssl_protocols TLSv1.2; proxy_ssl_verify on; proxy_ssl_trusted_certificate {};",
        trusted.display()
    );
    start_gateway(stage, "", &directives)?;
    stage.demand("/", 502)
}

/// The server, which speaks TLS 1.2 at least, answers with an alert and closes.
fn version_refused(stage: &mut Stage) -> Result<()> {
    let certificate = Certificate::create()?;
    serve(stage, certificate.folder())?;
    start_gateway(stage, "", "proxy_ssl_protocols TLSv1.1; proxy_ssl_ciphers DEFAULT@SECLEVEL=0;")?;
    stage.demand("/", 502)
}

/// Another service listens there, which greets before it is asked.
fn not_tls(stage: &mut Stage) -> Result<()> {
    go::serve(stage, &["-raw", "banner"])?;
    start_gateway(stage, "", "")?;
    stage.demand("/", 502)
}
