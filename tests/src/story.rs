//! The faults: each function sets a stage, breaks one connection in one way, and demands what the
//! fixture of the same name says. The same story serves every watcher.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Request;
use crate::netns::{Family, Link};
use crate::nginx::GatewayOptions;
use crate::scene::{Plan, Scene, Watcher, play};

/// Above what the server itself needs, below what would be felt by other tests.
const OOM_LIMIT: u64 = 64 << 20;

/// A story: where it plays and who watches.
pub type Story = fn(Link, Family, Watcher) -> Result<()>;

/// The request makes the server itself do `path`, and the gateway answers 502.
fn request_breaks_it(plan: &Plan, link: Link, family: Family, path: &str, name: &'static str) -> Result<()> {
    play(link, family, plan, |scene| {
        scene.demand(path, 502)?;
        scene.expect(name).map(drop)
    })
}

fn watched_by(watcher: Watcher) -> Plan {
    Plan { watcher, ..Plan::default() }
}

/// A gateway that keeps idle connections to the upstream.
fn keeping() -> GatewayOptions {
    GatewayOptions { keepalive: true, ..GatewayOptions::default() }
}

pub fn no_listener(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { server: None, ..watched_by(watcher) };
    request_breaks_it(&plan, link, family, "/ok", "no_listener")
}

pub fn no_listener_any_more(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        scene.demand("/until-close", 200)?;
        scene.server()?.exit(3)?;
        // Not to wait for anything: the fault is that the listener has been gone for a while.
        std::thread::sleep(Duration::from_secs(2));
        scene.demand("/ok", 502)?;
        scene.expect("no_listener_any_more").map(drop)
    })
}

pub fn process_crashed(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    request_breaks_it(&watched_by(watcher), link, family, "/segv", "process_crashed")
}

pub fn process_aborted(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    request_breaks_it(&watched_by(watcher), link, family, "/abort", "process_aborted")
}

pub fn process_exited(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    request_breaks_it(&watched_by(watcher), link, family, "/exit/3", "process_exited")
}

pub fn oom_killed(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { memory_limit: Some(OOM_LIMIT), ..watched_by(watcher) };
    request_breaks_it(&plan, link, family, "/oom", "oom_killed")
}

pub fn process_killed(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        let request = scene.start_request("/hang", &[])?;
        scene.server()?.wait_for("/hang")?;
        let killer = scene.server()?.killed_by_a_shell()?;
        scene.note_killer(killer);
        let outcome = request.finish(Duration::from_secs(20))?;
        ensure!(outcome.status == 502, "the request ended with {outcome:?}");
        scene.expect("process_killed").map(drop)
    })
}

pub fn closed_without_response(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    request_breaks_it(&watched_by(watcher), link, family, "/fin", "closed_without_response")
}

pub fn reset_without_response(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    request_breaks_it(&watched_by(watcher), link, family, "/reset", "reset_without_response")
}

pub fn closed_unread_data(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { server: Some(&["--unread"]), ..watched_by(watcher) };
    request_breaks_it(&plan, link, family, "/ok", "closed_unread_data")
}

pub fn reset_mid_response(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        let outcome = scene.request("/partial-reset")?;
        ensure!(outcome.status == 200 && outcome.code != 0, "no truncated response: {outcome:?}");
        scene.expect("reset_mid_response").map(drop)
    })
}

pub fn gateway_timeout_1s(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    gateway_timeout(link, family, watcher, Duration::from_secs(1))
}

pub fn gateway_timeout_2s(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    gateway_timeout(link, family, watcher, Duration::from_secs(2))
}

fn gateway_timeout(link: Link, family: Family, watcher: Watcher, timeout: Duration) -> Result<()> {
    let gateway = GatewayOptions { read_timeout: timeout, ..GatewayOptions::default() };
    let ms = timeout.as_secs_f64() * 1000.0;
    let plan = Plan { gateway, ..watched_by(watcher) };
    play(link, family, &plan, |scene| {
        let request = Instant::now();
        scene.demand("/hang", 504)?;
        let took = request.elapsed().as_secs_f64() * 1000.0;
        let line = scene.expect("gateway_timeout")?;
        if watcher == Watcher::Nobody {
            return Ok(());
        }
        let age = line["connection"]["since_request_ms"].as_f64();
        // Some ticks of the kernel's clock before; and no longer than the client had to wait, which is longer on a
        // machine that is busy.
        let plausible = age.is_some_and(|age| age > ms - 50.0 && age < took + 50.0);
        ensure!(
            plausible,
            "since_request_ms is {age:?} with a timeout of {ms} ms and an answer after {took} ms"
        );
        Ok(())
    })
}

pub fn client_gone(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        let request = scene.start_request("/hang", &[])?;
        scene.server()?.wait_for("/hang")?;
        // Its patience.
        std::thread::sleep(Duration::from_millis(500));
        request.give_up()?;
        scene.expect("client_gone").map(drop)
    })
}

pub fn connect_timeout(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    // Longer than 1 s, after which the kernel repeats the first SYN: one that nobody repeated could
    // still have been slow.
    let gateway = GatewayOptions { connect_timeout: Duration::from_secs(2), ..GatewayOptions::default() };
    let plan = Plan { gateway, server: None, dead_upstream: true, ..watched_by(watcher) };
    play(link, family, &plan, |scene| {
        scene.demand("/ok", 504)?;
        scene.expect("connect_timeout").map(drop)
    })
}

pub fn process_crashed_on_a_kept_connection(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { gateway: keeping(), ..watched_by(watcher) };
    play(link, family, &plan, |scene| {
        scene.demand("/ok", 200)?;
        scene.demand("/segv", 502)?;
        let line = scene.expect("process_crashed")?;
        if watcher != Watcher::Nobody {
            ensure!(line["connection"]["reused"] == true, "reused is {}", line["connection"]["reused"]);
        }
        Ok(())
    })
}

/// The connection is older than the agent, which therefore may not know what it carried.
pub fn process_crashed_on_an_older_connection(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { gateway: keeping(), early_request: Some("/ok"), ..watched_by(watcher) };
    play(link, family, &plan, |scene| {
        scene.demand("/segv", 502)?;
        if watcher == Watcher::Nobody {
            return Ok(());
        }
        let line = scene.wait_for_verdict(Duration::from_secs(20))?.json;
        ensure!(line["cause"] == "process_crashed" && line["by"] == "upstream", "cause is {}", line["cause"]);
        let impact = &line["impact"];
        ensure!(impact == "request_lost" || impact == "unknown", "impact is {impact}");
        ensure!(line["owner"]["comm"] == "nginx", "owner is {}", line["owner"]);
        ensure!(line["culprit"]["exit"]["signal"] == "SIGSEGV", "culprit is {}", line["culprit"]);
        Ok(())
    })
}

/// The process that dies takes a second request along, which asked for nothing wrong.
pub fn process_crashed_with_two_in_flight(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        let innocent = scene.start_request("/hang", &[])?;
        scene.server()?.wait_for("/hang")?;
        scene.demand("/segv", 502)?;
        let outcome = innocent.finish(Duration::from_secs(20))?;
        ensure!(outcome.status == 502, "the other request ended with {outcome:?}");
        scene.expect_of_each("process_crashed", 2)
    })
}

/// Two upstream connections break one after the other, for two reasons.
pub fn a_close_and_then_a_reset(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        scene.demand("/fin", 502)?;
        scene.demand("/reset", 502)?;
        scene.expect_in_order(&["closed_without_response", "reset_without_response"])
    })
}

/// A client that is no gateway gives up on the server itself: nobody else's business.
pub fn a_client_that_gives_up(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        let url = format!("http://{}/hang", scene.upstream());
        let request = Request::start(scene.net().gateway(), &["--max-time", "0.3", &url])?;
        ensure!(request.finish(Duration::from_secs(20))?.code == 28, "curl did not give up");
        scene.expect_silence()
    })
}

/// A check that connects and closes, as load balancers make by the thousand.
pub fn a_probe_without_a_request(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        let upstream: SocketAddr = scene.upstream().parse()?;
        scene.net().gateway().enter(|| TcpStream::connect(upstream).map(drop))??;
        scene.expect_silence()
    })
}

/// A slow answer is an answer.
pub fn a_slow_answer(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    healthy(&watched_by(watcher), link, family, "/slow/1500", "graceful_by_the_gateway")
}

/// A server that is stopped while it serves nobody.
pub fn a_server_that_ends_idle(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    play(link, family, &watched_by(watcher), |scene| {
        scene.demand("/ok", 200)?;
        scene.server()?.exit(0)?;
        scene.expect_silence()
    })
}

/// It takes kept connections along, and no request.
pub fn a_server_that_ends_with_kept_connections(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { gateway: keeping(), ..watched_by(watcher) };
    play(link, family, &plan, |scene| {
        scene.demand("/ok", 200)?;
        scene.server()?.exit(0)?;
        wait_for_the_end(scene)?;
        scene.expect_silence()
    })
}

pub fn idle_close(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    let plan = Plan { gateway: keeping(), ..watched_by(watcher) };
    healthy(&plan, link, family, "/idle/1000", "idle_close")
}

pub fn graceful(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    healthy(&watched_by(watcher), link, family, "/until-close", "graceful")
}

pub fn graceful_by_the_gateway(link: Link, family: Family, watcher: Watcher) -> Result<()> {
    healthy(&watched_by(watcher), link, family, "/ok", "graceful_by_the_gateway")
}

/// An end that harmed nobody: shown only to who asks for everything.
fn healthy(plan: &Plan, link: Link, family: Family, path: &str, name: &'static str) -> Result<()> {
    play(link, family, plan, |scene| {
        scene.demand(path, 200)?;
        if plan.watcher == Watcher::HostAll {
            return scene.expect(name).map(drop);
        }
        wait_for_the_end(scene)?;
        scene.expect_silence()
    })
}

/// Waits until no connection to the upstream is established any more.
fn wait_for_the_end(scene: &Scene) -> Result<()> {
    let upstream = scene.upstream();
    crate::process::poll("the upstream connection's end", Duration::from_secs(20), || {
        let mut ss = scene.net().gateway().command("ss").ok()?;
        let output = ss.args(["-Htn", "state", "established", "dst", &upstream]).output().ok()?;
        (output.status.success() && output.stdout.is_empty()).then_some(())
    })
}
