//! What is told from repetition: timeouts of the upstream and of the gateway, closes that are none, idle limits, and
//! connections that end together.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::board::late::{Late, ensure_on_time};
use crate::board::{Case, Stage, go};
use crate::client::dial_refused;
use crate::netns::Link;
use crate::nginx::{Certificate, GatewayOptions};

pub const CASES: &[Case] = &[
    Case::new("upstream_timeout_1500ms", |stage| upstream_timeout(stage, 1500)),
    Case::new("upstream_timeout_2500ms", |stage| upstream_timeout(stage, 2500)),
    Case::new("upstream_timeout_with_a_body_unread", upstream_timeout_with_a_body_unread),
    Case::new("go_write_timeout_1500ms", |stage| go_write_timeout(stage, 1500)),
    Case::new("go_write_timeout_2500ms", |stage| go_write_timeout(stage, 2500)),
    Case::new("closes_at_ages_that_differ", closes_at_ages_that_differ),
    Case::new("closes_at_one_age_and_a_slower_answer", closes_at_one_age_and_a_slower_answer),
    Case::new("closes_at_one_instant", closes_at_one_instant),
    Case::new("gateway_read_timeout_2s", |stage| gateway_read_timeout(stage, 2)),
    Case::new("gateway_read_timeout_3s", |stage| gateway_read_timeout(stage, 3)),
    Case::new("gateway_send_timeout_2s", |stage| gateway_send_timeout(stage, 2)),
    Case::new("gateway_send_timeout_3s", |stage| gateway_send_timeout(stage, 3)),
    Case::new("gateway_connect_timeout_500ms", |stage| gateway_connect_timeout(stage, 500)).over(Link::Tun),
    Case::new("gateway_connect_timeout_800ms", |stage| gateway_connect_timeout(stage, 800)).over(Link::Tun),
    Case::new("gateway_closed", gateway_closed),
    Case::new("keepalive_race_after_idle_closes", keepalive_race).over(Link::Tun),
    Case::new("connections_that_died_together", connections_that_died_together),
];

/// Between the starts of requests whose ends must not be one instant.
const APART: Duration = Duration::from_millis(250);

/// Three requests, each a little after the one before, that a timer ends with this status when they are so old.
fn three_times(stage: &Stage, path: &str, arguments: &[&str], status: u16, due: Duration) -> Result<()> {
    ensure_on_time(&times(stage, 3, path, arguments, status)?, due)
}

/// How long each of them took.
fn times(stage: &Stage, count: u32, path: &str, arguments: &[&str], status: u16) -> Result<Vec<Duration>> {
    let mut requests = Vec::new();
    for _ in 0..count {
        requests.push(stage.start_request(path, arguments)?);
        thread::sleep(APART);
    }
    let mut took = Vec::new();
    for request in requests {
        let outcome = request.finish(Duration::from_secs(20))?;
        ensure!(outcome.status == status, "{path} ended with {outcome:?}, not {status}");
        took.push(outcome.took);
    }
    Ok(took)
}

fn upstream_timeout(stage: &mut Stage, ms: u64) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/slow/300", 200)?;
    three_times(stage, &format!("/fin-after/{ms}"), &[], 502, Duration::from_millis(ms))
}

/// The header has been read, the body has not, so the kernel makes a RST of the close.
fn upstream_timeout_with_a_body_unread(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let body = stage.write("body", &"x".repeat(30_000))?;
    let body = format!("@{}", body.display());
    three_times(stage, "/fin-after/1500", &["--data-binary", &body], 502, Duration::from_millis(1500))
}

fn go_write_timeout(stage: &mut Stage, ms: u64) -> Result<()> {
    let mut server = stage.net().upstream().command(go::program("go_timeout")?)?;
    server.arg(stage.upstream().to_string()).arg("1s");
    stage.start_upstream("go_timeout", server)?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/sleep/300ms", 200)?;
    three_times(stage, &format!("/sleep/{ms}ms"), &[], 502, Duration::from_millis(ms))
}

fn closes_at_ages_that_differ(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    for ms in [300, 500, 800, 1300] {
        stage.demand(&format!("/fin-after/{ms}"), 502)?;
    }
    Ok(())
}

fn closes_at_one_age_and_a_slower_answer(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    stage.demand("/slow/2000", 200)?;
    three_times(stage, "/fin-after/1200", &[], 502, Duration::from_millis(1200))
}

/// One program that makes all three, so that they start as one.
fn closes_at_one_instant(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let url = format!("http://{}/fin-after/1500", stage.gateway());
    let urls = [&*url, "--output", "/dev/null", &url, "--output", "/dev/null"];
    let outcome =
        stage.request("/fin-after/1500", &[&["--parallel", "--parallel-immediate"], &urls[..]].concat())?;
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

fn gateway_read_timeout(stage: &mut Stage, seconds: u64) -> Result<()> {
    stage.start_fault_server(&[])?;
    let read_timeout = Duration::from_secs(seconds);
    stage.start_nginx(&GatewayOptions { read_timeout, ..GatewayOptions::default() })?;
    three_times(stage, "/hang", &[], 504, read_timeout)
}

/// What sending takes at least until nothing more fits into any buffer.
const SENDING: Duration = Duration::from_millis(25);

/// The server reads the header and no more of a body that no buffer holds.
fn gateway_send_timeout(stage: &mut Stage, seconds: u64) -> Result<()> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; client_max_body_size 0; proxy_send_timeout {seconds}s;\n\
         location / {{ proxy_pass http://{upstream}; }} }}"
    ))?;
    let body = stage.write("body", &"x".repeat(16_000_000))?;
    let body = format!("@{}", body.display());
    // Once more than it takes to learn: a little of the body may still go out while nginx waits already, when the
    // window opens by less than a segment, and then one of the ages is shorter.
    let took = times(stage, 4, "/hang", &["--data-binary", &body], 504)?;
    ensure_on_time(&took, Duration::from_secs(seconds) + SENDING)
}

/// The handshake takes longer than the gateway waits, and nothing is lost.
fn gateway_connect_timeout(stage: &mut Stage, ms: u64) -> Result<()> {
    stage.start_fault_server(&[])?;
    let connect_timeout = Duration::from_millis(ms);
    stage.start_nginx(&GatewayOptions { connect_timeout, ..GatewayOptions::default() })?;
    // Both ways together, and less than the second after which the SYN would be sent again.
    stage.tun()?.delay(Duration::from_millis(470));
    three_times(stage, "/ok", &[], 504, connect_timeout)
}

/// An HTTP/2 client cancels its requests and keeps its connection. The gateway has waited longer for an answer.
fn gateway_closed(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let certificate = Certificate::create()?;
    let (gateway, upstream, folder) = (stage.gateway(), stage.upstream(), certificate.folder().display());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway} ssl http2; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;\n\
         location / {{ proxy_pass http://{upstream}; }} }}"
    ))?;
    let client = |path: &str, times: &[&str]| -> Result<_> {
        let mut client = stage.net().gateway().command(go::program("go_cancel")?)?;
        client.arg(format!("https://{gateway}{path}")).args(times);
        Ok(client)
    };
    let (patient, cancelling) =
        (client("/slow/2600", &["10s"])?, client("/hang", &["700ms", "1300ms", "1900ms"])?);
    stage.start_program("patient", patient)?;
    stage.program("patient")?.wait_to_say("answered HTTP/2.0 200 OK", Duration::from_secs(20))?;
    stage.start_program("cancelling", cancelling)?;
    stage.program("cancelling")?.wait_to_say("cancelled\ncancelled\ncancelled", Duration::from_secs(20))
}

/// Three connections are closed when they have been idle for 2 s. Then one is used again so late that the FIN is on
/// its way.
fn keepalive_race(stage: &mut Stage) -> Result<()> {
    let (idle, delay) = (Duration::from_secs(2), Duration::from_millis(150));
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions { keepalive: true, ..GatewayOptions::default() })?;
    let path = format!("/idle/{}", idle.as_millis());
    times(stage, 3, &path, &[], 200)?;
    stage.wait_for_the_end()?;
    stage.tun()?.delay(delay);
    stage.demand(&path, 200)?;
    // The server began to wait `delay` ago; its FIN is seen here as late.
    thread::sleep(idle - delay);
    let outcome = stage.request("/ok", &[])?;
    if outcome.status == 200 {
        return Err(Late("the request did not cross the close".to_owned()).into());
    }
    ensure!(outcome.status == 502, "{outcome:?}");
    Ok(())
}

/// The next connect is refused at once, well within the time for which verdicts wait.
fn connections_that_died_together(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&GatewayOptions::default())?;
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.push(stage.start_request("/hang", &[])?);
        stage.server()?.wait_for("/hang")?;
        thread::sleep(APART);
    }
    stage.server()?.killed_by_a_shell()?;
    dial_refused(stage.net().gateway(), stage.upstream(), 1)?;
    for request in requests {
        let outcome = request.finish(Duration::from_secs(20))?;
        ensure!(outcome.status == 502, "{outcome:?}");
    }
    Ok(())
}
