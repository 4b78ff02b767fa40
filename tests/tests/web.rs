//! The web page: a real agent, real broken connections, a real browser.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, free_port};
use rstrace_tests::bench::faults::{Breaker, Fault};
use rstrace_tests::chromium::Chromium;
use rstrace_tests::client::{Request, dial_refused};
use rstrace_tests::netns::{Family, Link, Net, unique_port};
use rstrace_tests::nginx::Nginx;
use rstrace_tests::process::{poll, run_within};
use serde_json::Value;

/// For what a page does at once, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(10);

/// An agent sees the whole host, and a page shows 200 rows: while one test floods it, the others wait.
static FLOOD: RwLock<()> = RwLock::new(());

fn without_flood() -> RwLockReadGuard<'static, ()> {
    FLOOD.read().unwrap_or_else(PoisonError::into_inner)
}

/// A namespace, an agent with a page, and a browser that has it open.
fn open() -> Result<(Net, Agent, String, Chromium)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let web = free_port()?.to_string();
    let agent = Agent::start_with(&["--web", &web])?;
    let mut browser = Chromium::start()?;
    browser.look(1280, 800, false)?;
    let url = format!("http://{web}/");
    browser.open(&url)?;
    browser.wait_for("document.getElementById('state').textContent === 'live'", SOON)?;
    Ok((net, agent, url, browser))
}

/// The row of an upstream, as an expression.
fn row(upstream: SocketAddr) -> String {
    format!("[...document.querySelectorAll('#rows tr')].find((r) => r.upstream === '{upstream}')")
}

/// Where pictures are left for whoever wants to look: `RSTRACE_SCREENSHOTS`, if it is set.
fn screenshot(browser: &mut Chromium, name: &str) -> Result<()> {
    let Some(folder) = std::env::var_os("RSTRACE_SCREENSHOTS").map(PathBuf::from) else { return Ok(()) };
    std::fs::create_dir_all(&folder)?;
    browser.screenshot(&folder.join(format!("{name}.png")))
}

fn no_complaints(browser: &mut Chromium) -> Result<()> {
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "the console says {complaints:?}");
    Ok(())
}

#[test]
fn a_broken_upstream_appears_within_a_second_and_opens() -> Result<()> {
    // Alone, since it measures time.
    let _alone = FLOOD.write().unwrap_or_else(PoisonError::into_inner);
    let (net, _agent, _, mut browser) = open()?;
    let upstream = net.free_upstream();
    let began = Instant::now();
    dial_refused(net.gateway(), upstream, 3)?;
    browser.wait_for(&format!("{}?.parts.lost.textContent === '3'", row(upstream)), SOON)?;
    let took = began.elapsed();
    eprintln!("three refused connects were on the page after {took:?}");
    ensure!(took < Duration::from_secs(1), "it took {took:?}");

    browser.evaluate(&format!("{}.focus()", row(upstream)))?;
    browser.press("Enter")?;
    browser.wait_for("document.querySelectorAll('#detail article').length === 3", SOON)?;
    let shown = browser.evaluate("document.getElementById('detail').innerText")?;
    for part in [&upstream.to_string(), "no_listener", "connect_failed", "nothing listens on"] {
        ensure!(shown.to_string().contains(part), "no {part:?} in {shown}");
    }
    screenshot(&mut browser, "detail-light")?;
    browser.look(1280, 800, true)?;
    screenshot(&mut browser, "detail-dark")?;
    browser.press("Escape")?;
    browser.wait_for("document.getElementById('detail').hidden", SOON)?;
    no_complaints(&mut browser)
}

#[test]
fn an_upstream_has_the_name_that_the_gateway_gives_it() -> Result<()> {
    let _quiet = without_flood();
    let (net, _agent, _, mut browser) = open()?;
    let (upstream, gateway) = (net.free_upstream(), SocketAddr::new(net.gateway_ip(), unique_port()));
    let http = format!(
        "upstream checkout {{ server {upstream} max_fails=0; }}
         server {{ listen {gateway}; location / {{ proxy_pass http://checkout; }} }}"
    );
    let nginx = Nginx::start_with(net.gateway(), gateway, &http)?;
    let named = format!("{}?.textContent.includes('checkout')", row(upstream));
    // Its configuration is read soon after the agent has met its first worker.
    poll("a row with the name", Duration::from_secs(30), || {
        Request::start(net.gateway(), &[&nginx.url("/")]).ok()?.finish(SOON).ok()?;
        browser.wait_for(&named, Duration::from_secs(1)).ok()
    })?;
    browser.press("r")?;
    browser.wait_for("document.getElementById('report').textContent.includes('checkout')", SOON)?;
    no_complaints(&mut browser)
}

#[test]
fn filters_are_those_of_the_command_line() -> Result<()> {
    let _quiet = without_flood();
    let (net, _agent, _, mut browser) = open()?;
    let (one, other) = (net.free_upstream(), net.free_upstream());
    dial_refused(net.gateway(), one, 2)?;
    dial_refused(net.gateway(), other, 1)?;
    let rows = |names: &[SocketAddr]| {
        names.iter().fold("true".to_owned(), |mut all, name| {
            let _ = write!(all, " && !!{}", row(*name));
            all
        })
    };
    browser.wait_for(&rows(&[one, other]), SOON)?;

    // What is typed is there at once, the past included.
    browser.press("/")?;
    browser.type_text(&one.to_string())?;
    browser.press("Enter")?;
    browser.wait_for(&format!("{}?.parts.lost.textContent === '2' && !{}", row(one), row(other)), SOON)?;
    let command = browser.evaluate("document.getElementById('command').textContent")?;
    ensure!(command == format!("rstrace watch --upstream {one} --since 15m"), "{command}");
    let address = browser.evaluate("location.search")?;
    ensure!(address.to_string().contains("upstream=127.0.0.1"), "{address}");

    // What is wrong is said, in the words of the command line.
    let set = |name: &str, value: &str| {
        format!(
            "(() => {{ const input = document.querySelector('[name={name}]'); input.value = '{value}'; \
             input.dispatchEvent(new Event('change')); }})()"
        )
    };
    browser.evaluate(&set("upstream", ""))?;
    browser.wait_for(&rows(&[one, other]), SOON)?;
    no_complaints(&mut browser)?;
    browser.evaluate(&set("cause", "nonsense"))?;
    browser.wait_for("document.getElementById('trouble').textContent.includes(\"'nonsense'\")", SOON)?;
    browser.evaluate(&set("cause", "oom_killed"))?;
    browser.wait_for("document.getElementById('trouble').hidden", SOON)?;
    browser.wait_for("document.querySelectorAll('#rows tr').length === 0", SOON)?;
    browser.evaluate("document.getElementById('clear').click()")?;
    Ok(())
}

#[test]
fn a_pause_holds_the_table_still() -> Result<()> {
    let _quiet = without_flood();
    let (net, _agent, _, mut browser) = open()?;
    let upstream = net.free_upstream();
    dial_refused(net.gateway(), upstream, 1)?;
    let lost = |n: &str| format!("{}?.parts.lost.textContent === '{n}'", row(upstream));
    browser.wait_for(&lost("1"), SOON)?;
    browser.press("p")?;
    browser.wait_for("document.getElementById('state').textContent === 'paused'", SOON)?;
    dial_refused(net.gateway(), upstream, 4)?;
    // They have arrived, and are not drawn.
    browser.wait_for(&format!("page.model.upstreams.get('{upstream}').lost === 5"), SOON)?;
    ensure!(browser.evaluate(&lost("1"))? == true, "the table moved");
    browser.press("p")?;
    browser.wait_for(&lost("5"), SOON)?;
    no_complaints(&mut browser)
}

/// Upstreams that break at once, and how often in all.
const UPSTREAMS: u16 = 200;
const ABORTS_A_SECOND: u32 = 1000;

#[test]
fn it_stays_live_with_200_upstreams_and_1000_aborts_a_second() -> Result<()> {
    let _alone = FLOOD.write().unwrap_or_else(PoisonError::into_inner);
    let (net, mut agent, _, mut browser) = open()?;
    // How long the page is busy at a stretch, at most.
    browser.evaluate(
        "window.longest = 0; (() => { let last = performance.now(); setInterval(() => { const now = performance.now(); \
         window.longest = Math.max(window.longest, now - last); last = now; }, 20); })()",
    )?;
    let began = Instant::now();
    let time = Duration::from_secs(10);
    let mut made = 0;
    while began.elapsed() < time {
        let round = Instant::now();
        net.gateway().enter(|| -> Result<()> {
            for port in 20_000..20_000 + UPSTREAMS {
                Breaker::new(Fault::Refused, SocketAddr::from((Ipv4Addr::new(127, 7, 7, 7), port)))?
                    .once()?;
            }
            Ok(())
        })??;
        made += u32::from(UPSTREAMS);
        let pace = Duration::from_secs(1) * u32::from(UPSTREAMS) / ABORTS_A_SECOND;
        std::thread::sleep(pace.saturating_sub(round.elapsed()));
    }
    let fence = net.free_upstream();
    dial_refused(net.gateway(), fence, 1)?;
    // However late the agent itself is on this machine.
    let told = |line: &Value| line["upstream"] == fence.to_string();
    agent.wait_for("the one after the flood", Duration::from_secs(30), told)?;
    let late = browser.wait_for(&format!("page.model.upstreams.has('{fence}')"), SOON)?;
    let sum = format!("page.model.lost + page.omitted >= {made}");
    browser.wait_for(&sum, SOON)?;
    let longest = browser.evaluate("window.longest")?.as_f64().context("a time")?;
    let rows = browser.evaluate("document.querySelectorAll('#rows tr').length")?;
    let omitted = browser.evaluate("page.omitted")?;
    eprintln!(
        "{made} aborts of {UPSTREAMS} upstreams in {time:?}: the page knew the next one {late:?} after the agent had told it, it was busy for \
         at most {longest:.0} ms, {omitted} left out"
    );
    ensure!(rows.as_u64() == Some(u64::from(UPSTREAMS)), "{rows} rows");
    ensure!(late < Duration::from_secs(2), "the page is {late:?} late");
    screenshot(&mut browser, "flood-light")?;
    browser.look(420, 800, true)?;
    screenshot(&mut browser, "flood-narrow-dark")?;
    no_complaints(&mut browser)
}

#[test]
fn the_report_is_a_view_of_the_page() -> Result<()> {
    let _quiet = without_flood();
    let (net, _agent, _, mut browser) = open()?;
    let upstream = net.free_upstream();
    dial_refused(net.gateway(), upstream, 2)?;
    browser.wait_for(&format!("!!{}", row(upstream)), SOON)?;
    browser.press("r")?;
    let shown = "document.getElementById('report').innerText";
    browser.wait_for(&format!("{shown}.includes('{upstream}') && {shown}.includes('no_listener')"), SOON)?;
    screenshot(&mut browser, "report-light")?;
    browser.look(420, 900, true)?;
    screenshot(&mut browser, "report-narrow-dark")?;
    browser.press("Escape")?;
    browser.wait_for("document.getElementById('report').hidden", SOON)?;
    no_complaints(&mut browser)
}

#[test]
fn beyond_loopback_the_token_of_the_log_opens_it() -> Result<()> {
    let _quiet = without_flood();
    let port = free_port()?.port();
    let agent = Agent::start_with(&["--web", &format!("0.0.0.0:{port}")])?;
    let log = agent.logs("/?token=")?;
    let token = log.split("/?token=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let token = token.context(log.clone())?;
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "--max-time", "5"]);
    let refused = run_within(curl.arg(format!("http://127.0.0.1:{port}/api/history")), SOON)?;
    ensure!(refused.stdout == "401", "{refused:?}");

    let mut browser = Chromium::start()?;
    browser.open(&format!("http://127.0.0.1:{port}/?token={token}"))?;
    browser.wait_for("document.getElementById('state').textContent === 'live'", SOON)?;
    let address = browser.evaluate("location.href + document.cookie")?.to_string();
    ensure!(!address.contains(token), "the token stays in the address, or scripts can read it: {address}");
    no_complaints(&mut browser)
}
