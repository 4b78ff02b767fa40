//! What the gateway does itself: it gives up, it rejects, it ends.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{LIMIT, held, start};
use crate::board::Stage;
use crate::nginx::GatewayOptions;

pub fn timeout(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage
        .start_nginx(&GatewayOptions { read_timeout: Duration::from_secs(1), ..GatewayOptions::default() })?;
    stage.demand("/hang", 504)
}

/// The master is told to stop at once, with a request in flight.
pub fn stopped_fast(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    let request = held(stage)?;
    stage.signal_by_a_shell("TERM", stage.nginx()?.pid())?;
    let outcome = request.finish(LIMIT)?;
    ensure!(outcome.status == 0 && outcome.code != 28, "{outcome:?}");
    Ok(())
}

/// The answer's header comes along, so the client gets nothing at all.
pub fn chunk_invalid(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; }} }}"
    ))?;
    let outcome = stage.request("/bad-chunk", &[])?;
    ensure!(outcome.code != 0, "the client took it for whole: {outcome:?}");
    Ok(())
}

/// nginx takes what is no header for an answer of HTTP/0.9.
pub fn not_http(stage: &mut Stage) -> Result<()> {
    start(stage)?;
    stage.request("/garbage", &[])?;
    stage.wait_for_the_end()
}

/// It answers by itself in place of the upstream, whose answer is too long to have been read by then.
pub fn answer_discarded(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; error_page 500 =503 /here;\n\
         location / {{ proxy_pass http://{upstream}; proxy_intercept_errors on; }}\n\
         location = /here {{ internal; return 200 here; }} }}"
    ))?;
    stage.demand("/error/200000", 503)
}
