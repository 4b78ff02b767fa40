//! More than can be delivered: what is left out is counted and said, and takes nothing from anybody else.
//! Alone, because it fills the ring for everyone.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::audit;
use rstrace_tests::bench::faults::{Breaker, Fault};
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;
use rstrace_tests::scrape::Scrape;
use serde_json::Value;

/// Connects that are refused: many more than are told each in a second.
const FLOOD: u32 = 20_000;
/// Connections that are reset: each makes several records, so this is several times as much as the ring holds.
const RESETS: u32 = 5_000;
const ABORTS: &str = "rstrace_upstream_aborts_total";

/// A namespace, and two addresses in it that refuse: of a noisy upstream and of a quiet one.
fn two_upstreams() -> Result<(Net, SocketAddr, SocketAddr)> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let (noisy, quiet) = (net.free_upstream(), net.free_upstream());
    ensure!(noisy != quiet, "the same address twice");
    Ok((net, noisy, quiet))
}

/// The floods of these tests share one ring, and each is about what a flood does to it.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One that failed leaves nothing behind that the next could mind.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn about(upstream: SocketAddr) -> impl Fn(&Value) -> bool {
    let upstream = upstream.to_string();
    move |line| line["upstream"] == upstream.as_str()
}

fn aborts(scrape: &Scrape, upstream: SocketAddr) -> f64 {
    scrape.sum(ABORTS, &[("upstream", &upstream.to_string())])
}

/// Waits until the aborts of an upstream add up, and no longer.
fn add_up(agent: &Agent, upstream: SocketAddr, expected: u32) -> Result<Scrape> {
    let expected = f64::from(expected);
    let sum = poll("a sum of aborts that is right", Duration::from_secs(20), || {
        agent.scrape().ok().filter(|scrape| aborts(scrape, upstream) == expected)
    });
    sum.with_context(|| agent.scrape().map(|s| s.about(&upstream.to_string())).unwrap_or_default())
}

/// The kernel's own counters say that no RST was missed, however full the ring was.
fn misses_nothing(agent: &Agent, net: &Net, resets: u32) -> Result<()> {
    let audited = audit::wait_for(&agent.socket(), net.gateway().inode(), "no gap", |audited| {
        audited.kernel("OutRsts") >= u64::from(resets) && audited.unexplained().is_empty()
    })?;
    let (kernel, seen) = (audited.kernel("OutRsts"), audited.seen("OutRsts"));
    eprintln!("the kernel sent {kernel} RSTs, {seen} were seen; gaps: {:?}", audited.all_gaps());
    Ok(())
}

#[test]
fn a_full_ring_hides_no_other_upstreams_first_break() -> Result<()> {
    let _alone = alone();
    let (net, noisy, quiet) = two_upstreams()?;
    let _occupant = audit::occupy(net.gateway())?;
    let mut agent = Agent::start(false)?;
    // An agent that is not scheduled: nothing leaves the ring.
    agent.signal(libc::SIGSTOP);
    let flood = net.gateway().enter(|| {
        let noisy = Breaker::new(Fault::Linger, noisy)?;
        (0..RESETS).try_for_each(|_| noisy.once())
    })?;
    let single = dial_refused(net.gateway(), quiet, 1);
    agent.signal(libc::SIGCONT);
    flood?;
    single?;

    let shown = agent.wait_for("the quiet upstream", Duration::from_secs(10), about(quiet))?;
    ensure!(shown.json["cause"] == "no_listener", "{}", shown.json);
    let scrape = add_up(&agent, noisy, RESETS)?;
    add_up(&agent, quiet, 1)?;
    let unclassified = scrape.sum(ABORTS, &[("upstream", &noisy.to_string()), ("cause", "unclassified")]);
    let judged = aborts(&scrape, noisy) - unclassified;
    ensure!(judged > 100.0, "{judged} of {RESETS} were judged");
    ensure!(unclassified > 1000.0, "the ring was never full: {unclassified} were not judged");
    let lost = scrape.sum("rstrace_events_lost_total", &[("stage", "ring")]);
    ensure!(lost >= unclassified, "{unclassified} were not judged, and {lost} lost");
    // Those who watch are told as well.
    let told = |line: &Value| line["kind"] == "omitted" && line["why"].to_string().contains("ring buffer");
    let told = agent.wait_for("what was left out", Duration::from_secs(5), told)?;
    ensure!(told.json["count"].as_f64() >= Some(unclassified), "{} of {unclassified}", told.json);
    misses_nothing(&agent, &net, RESETS)?;
    eprintln!(
        "{RESETS} while the agent was stopped: {judged} judged, {unclassified} unclassified, {lost} lost"
    );
    Ok(())
}

#[test]
fn those_who_watch_are_told_how_many_failed_alike() -> Result<()> {
    let _alone = alone();
    let (net, noisy, quiet) = two_upstreams()?;
    let _occupant = audit::occupy(net.gateway())?;
    let mut agent = Agent::start(false)?;
    dial_refused(net.gateway(), noisy, FLOOD)?;
    misses_nothing(&agent, &net, FLOOD)?;
    let scrape = add_up(&agent, noisy, FLOOD)?;
    let judged = scrape.sum(ABORTS, &[("upstream", &noisy.to_string()), ("cause", "no_listener")]);
    ensure!(judged == f64::from(FLOOD), "{judged} of {FLOOD} have their cause");
    let told = |line: &Value| line["kind"] == "omitted" && line["why"].to_string().contains("failed alike");
    let told = agent.wait_for("what was left out", Duration::from_secs(5), told)?;
    ensure!(told.json["count"].as_u64() > Some(0), "{}", told.json);
    // Later than the flood, another one is told again.
    dial_refused(net.gateway(), quiet, 1)?;
    agent.wait_for("the quiet upstream", Duration::from_secs(10), about(quiet))?;
    Ok(())
}

/// Runs `work` while connections to `noisy` are refused as fast as one thread can make them.
fn amid_a_flood<T>(net: &Net, noisy: SocketAddr, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                dial_refused(net.gateway(), noisy, 500)?;
            }
            Ok(())
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        done
    })
}

#[test]
fn a_stopped_reader_costs_nobody_else_anything() -> Result<()> {
    let _alone = alone();
    let (net, noisy, quiet) = two_upstreams()?;
    let agent = Agent::start(false)?;
    let socket = agent.socket().to_string_lossy().into_owned();
    let mut stopped = Agent::watch(&["--socket", &socket])?;
    let mut other = Agent::watch(&["--socket", &socket, "--upstream", &quiet.to_string()])?;
    let rest = agent.anonymous_kb()?;
    stopped.signal(libc::SIGSTOP);
    let took = amid_a_flood(&net, noisy, || {
        // Far more than the reader's pipe, its socket and its queue hold.
        dial_refused(net.gateway(), noisy, FLOOD)?;
        let rounds = (0..11).map(|_| {
            other.forget();
            let before = SystemTime::now();
            dial_refused(net.gateway(), quiet, 1)?;
            let line = other.wait_for("the quiet upstream", Duration::from_secs(5), about(quiet))?;
            Ok(line.at.duration_since(before)?)
        });
        rounds.collect::<Result<Vec<_>>>()
    });
    let grown = agent.anonymous_kb()?;
    stopped.signal(libc::SIGCONT);
    let mut took = took?;
    took.sort_unstable();
    ensure!(took[5] < Duration::from_secs(1), "another reader's lines came after {took:?}");

    stopped.wait_for("the quiet upstream", Duration::from_secs(10), about(quiet))?;
    let fence = net.free_upstream();
    dial_refused(net.gateway(), fence, 1)?;
    stopped.wait_for("the last line", Duration::from_secs(10), about(fence))?;
    let slow = |line: &Value| line["kind"] == "omitted" && line["why"] == "the reader was too slow";
    let gaps = stopped.seen().iter().filter(|line| slow(&line.json));
    let omitted: f64 = gaps.filter_map(|line| line.json["count"].as_f64()).sum();
    let dropped = agent.scrape()?.sum("rstrace_events_dropped_total", &[("sink", "socket")]);
    ensure!(omitted > 0.0 && omitted == dropped, "{omitted} lines were said to be left out, {dropped} were");
    eprintln!(
        "another reader's lines beside a flood and a stopped reader: median {:?}, slowest {:?}; {omitted} lines left \
         out for the stopped one; RssAnon {rest} kB before, {grown} kB after",
        took[5], took[10]
    );
    ensure!(grown <= 40_000, "RssAnon {rest} kB before, {grown} kB after");
    Ok(())
}

/// More than the kernel's map and the label hold.
const SCANNED: u16 = 5000;

#[test]
fn a_port_scan_takes_no_place_from_an_upstream_that_answers() -> Result<()> {
    let _alone = alone();
    let (net, _, real) = two_upstreams()?;
    let agent = Agent::start(false)?;
    let refused = [("outcome", "refused")];
    let connections = "rstrace_upstream_connections_total";
    net.gateway().enter(|| -> Result<()> {
        for port in 10_000..10_000 + SCANNED {
            let address = SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), port));
            ensure!(TcpStream::connect(address).is_err(), "somebody listens on {address}");
        }
        Ok(())
    })??;
    let scrape = agent.scrape()?;
    let counted = scrape.sum(connections, &refused);
    ensure!(counted >= f64::from(SCANNED), "{counted} of {SCANNED} refusals were counted");
    let judged = poll("a sum of aborts that is right", Duration::from_secs(20), || {
        agent.scrape().ok().filter(|scrape| scrape.sum(ABORTS, &[]) >= f64::from(SCANNED))
    });
    judged.with_context(|| format!("{} aborts", scrape.sum(ABORTS, &[])))?;

    net.upstream().enter(|| -> Result<()> {
        let listener = TcpListener::bind(real)?;
        let stream = TcpStream::connect(real)?;
        drop(listener.accept()?);
        drop(stream);
        Ok(())
    })??;
    let scrape = agent.scrape()?;
    let about = [("upstream", &*real.to_string()), ("outcome", "established")];
    ensure!(scrape.sum(connections, &about) == 1.0, "{real} found no place");
    let places = scrape.sum("rstrace_table_entries", &[("table", "upstreams")]);
    let others = scrape.sum(connections, &[("upstream", "other"), ("outcome", "refused")]);
    eprintln!(
        "{SCANNED} upstreams scanned: {places} have a place in the kernel, {others} are counted as other"
    );
    Ok(())
}
