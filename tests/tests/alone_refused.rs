//! A flood: 100,000 refused connections as fast as one thread can make them. Every one is counted under its cause,
//! though the agent hears of a few thousand in a second only. Alone, because it fills the ring for everyone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::client::dial_refused;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::poll;

const FLOOD: u32 = 100_000;

#[test]
fn every_refused_connection_of_a_flood_is_counted() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let agent = Agent::start(false)?;
    let address = net.free_upstream();
    let upstream = address.to_string();
    let rest = agent.resident_kb()?;
    let took = dial_refused(net.gateway(), address, FLOOD)?;

    let expected = f64::from(FLOOD);
    let about = [("upstream", &*upstream)];
    let refused = [("upstream", &*upstream), ("outcome", "refused")];
    let scrape = agent.scrape()?;
    let counted = scrape.sum("rstrace_upstream_connections_total", &refused);
    ensure!(counted == expected, "{counted} of {expected} refusals counted:\n{}", scrape.about(&upstream));
    // The verdicts follow when the table has settled.
    let aborts = "rstrace_upstream_aborts_total";
    let judged = poll("a sum of aborts that is right", Duration::from_secs(20), || {
        agent.scrape().ok().filter(|scrape| scrape.sum(aborts, &about) == expected)
    });
    let scrape = agent.scrape()?;
    judged.with_context(|| scrape.about(&upstream))?;

    let by_cause = |cause| scrape.sum(aborts, &[("upstream", &*upstream), ("cause", cause)]);
    let [judged, unclassified] = ["no_listener", "unclassified"].map(by_cause);
    ensure!(judged + unclassified == expected, "a wrong cause:\n{}", scrape.about(&upstream));
    let lost = scrape.sum("rstrace_events_lost_total", &[]);
    ensure!(unclassified == 0.0 && lost == 0.0, "{unclassified} were not judged, and {lost} lost");
    let told = scrape.sum("rstrace_events_received_total", &[("kind", "socket_end")]);
    ensure!(told < expected / 2.0, "{told} of {expected} were told each");
    let omitted = scrape.sum("rstrace_events_dropped_total", &[]);
    eprintln!(
        "{FLOOD} refused in {took:?} ({:.1} us each): {judged} judged, {unclassified} unclassified, {lost} events \
         lost, {omitted} dropped by sinks; VmRSS {rest} kB before, {} kB after",
        took.as_secs_f64() * 1e6 / expected,
        agent.resident_kb()?
    );
    Ok(())
}
