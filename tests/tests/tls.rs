//! TLS deceives whoever looks at bytes alone: session tickets are read after the request was
//! written, and close_notify is written after the answer was read. Both directions: what is healthy
//! stays silent, what is lost is told.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::netns::{Family, Link};
use rstrace_tests::nginx::{Certificate, GatewayOptions, Nginx};
use rstrace_tests::process::{Guarded, Lines, poll};
use rstrace_tests::scene::{Plan, Scene, play};
use rstrace_tests::server::kill_by_a_shell;

fn over_tls(keepalive: bool) -> Plan {
    let gateway = GatewayOptions { tls: true, keepalive, ..GatewayOptions::default() };
    Plan { gateway, server: None, ..Plan::default() }
}

fn tls_upstream(scene: &Scene, certificate: &Certificate) -> Result<Nginx> {
    Nginx::serve_tls(scene.net().upstream(), scene.upstream().parse()?, certificate)
}

#[test]
fn answers_over_tls_are_silent() -> Result<()> {
    play(Link::Veth, Family::V4, &over_tls(false), |scene| {
        let certificate = Certificate::create()?;
        let _upstream = tls_upstream(scene, &certificate)?;
        // The order of close_notify, FIN and RST is a race: see many.
        for _ in 0..20 {
            scene.demand("/", 200)?;
        }
        scene.expect_silence()
    })
}

#[test]
fn kept_connections_over_tls_are_silent() -> Result<()> {
    play(Link::Veth, Family::V4, &over_tls(true), |scene| {
        let certificate = Certificate::create()?;
        let _upstream = tls_upstream(scene, &certificate)?;
        scene.demand("/", 200)?;
        scene.demand("/", 200)?;
        // The upstream closes them after 1 s.
        poll("the idle close", Duration::from_secs(20), || {
            let mut ss = scene.net().gateway().command("ss").ok()?;
            let output = ss.args(["-Htn", "dst", &scene.upstream()]).output().ok()?;
            (!String::from_utf8_lossy(&output.stdout).contains("ESTAB")).then_some(())
        })?;
        scene.expect_silence()
    })
}

#[test]
fn a_request_lost_over_tls_is_told() -> Result<()> {
    play(Link::Veth, Family::V4, &over_tls(false), |scene| {
        let certificate = Certificate::create()?;
        let mut server = scene.net().upstream().command("openssl")?;
        server.args(["s_server", "-quiet", "-key", "key.pem", "-cert", "cert.pem"]);
        server.args(["-accept", &scene.upstream()]).current_dir(certificate.folder());
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Guarded::spawn(&mut server)?;
        let said = Lines::of(server.child().stdout.take().context("openssl's stdout is piped")?);
        listening(scene)?;
        let request = scene.start_request("/", &[])?;
        let deadline = Instant::now() + Duration::from_secs(20);
        // It prints what it reads; now it holds the request, and will never answer.
        let line = said.next(deadline)?.context("openssl has read no request")?;
        ensure!(line.text.starts_with("GET / "), "{line:?}");
        let killer = kill_by_a_shell(server.pid())?;
        request.finish(Duration::from_secs(20))?;
        let line = scene.wait_for_verdict(Duration::from_secs(20))?.json;
        ensure!(line["by"] == "upstream" && line["cause"] == "process_killed", "{line}");
        ensure!(line["impact"] == "request_lost" || line["impact"] == "unknown", "{line}");
        ensure!(line["culprit"]["pid"] == server.pid(), "{line}");
        ensure!(line["culprit"]["killed_by"]["pid"] == killer, "{line}");
        Ok(())
    })
}

fn listening(scene: &Scene) -> Result<()> {
    poll("openssl to listen", Duration::from_secs(20), || {
        let mut ss = scene.net().upstream().command("ss").ok()?;
        let output = ss.args(["-Htln"]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).contains(&scene.upstream()).then_some(())
    })
}
