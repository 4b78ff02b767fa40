//! Where every slot for a mark is taken. Alone, because the slots are the whole host's.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;
use rstrace_tests::slots::{Slots, Taker};

const LIMIT: Duration = Duration::from_secs(10);

/// A socket that has gone, as a slot has it whose closing the kernel did not let the programs see: an address in
/// the first page of the kernel's half, where no socket is.
const GONE: Taker = Taker { cookie: u64::MAX, skaddr: 0xffff_8000_0000_0000 };

#[test]
fn a_connection_is_known_with_every_slot_taken_and_takes_what_the_dead_have_left() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let mut agent = Agent::start(false)?;
    let slots = Slots::of(agent.pid())?;

    // One that lives, and has a slot.
    let listener = net.gateway().enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let address = listener.local_addr()?;
    let others = takers(&slots)?;
    let living = net.gateway().enter(|| TcpStream::connect(address))??;
    let accepted = listener.accept()?;
    let taker =
        takers(&slots)?.into_iter().find(|taker| !others.contains(taker)).context("it took no slot")?;

    // It has them all: the next connection lives elsewhere, and what is said of it is the same.
    slots.fill(taker)?;
    refused_and_known(&mut agent, &net)?;
    // (Whoever asks for the figure connects as well.)
    ensure!(turned_away(&agent)? >= 2.0, "nobody was turned away");

    // It closes: what it seems to have is nobody's.
    drop((living, accepted, listener));
    let before = poll("slots for those who ask", LIMIT, || {
        let before = turned_away(&agent).ok()?;
        (turned_away(&agent).ok()? == before).then_some(before)
    })?;
    refused_and_known(&mut agent, &net)?;

    // So are those of sockets whose memory is no socket any more.
    slots.fill(GONE)?;
    refused_and_known(&mut agent, &net)?;
    let by_the_dead = turned_away(&agent)? - before;
    ensure!(by_the_dead == 0.0, "{by_the_dead} were turned away by the dead");
    Ok(())
}

/// Whoever has a slot now.
fn takers(slots: &Slots) -> Result<Vec<Taker>> {
    (0..slots.count).filter_map(|index| slots.taker(index).transpose()).collect()
}

/// Connects where nobody listens; the line has to say who did.
fn refused_and_known(agent: &mut Agent, net: &Net) -> Result<()> {
    agent.forget();
    let line = agent.sees_a_refusal(net.gateway(), net.free_upstream(), LIMIT)?;
    ensure!(line.json["owner"]["pid"] == std::process::id(), "whose connection? {}", line.json);
    Ok(())
}

/// Connections that found their slot taken.
fn turned_away(agent: &Agent) -> Result<f64> {
    Ok(agent.scrape()?.sum("rstrace_table_evicted_total", &[("table", "slots")]))
}
