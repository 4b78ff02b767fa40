//! The plan for a kernel that keeps its memory from everybody, root included (`lockdown=confidentiality`).
//!
//! Programs that follow types still load, those that read by address do not. So connections and processes are judged
//! as ever; what needs packet headers is lost, and must be told as less certain, not as something else.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::Agent;
use rstrace_tests::process::run_within;
use serde_json::json;

use crate::fault::Fault;
use crate::results::Results;
use crate::smoke::{FAULTS, V4, VERDICT, addresses, all_faults, is_about};
use crate::upstream::PATIENCE;

/// Runs the whole plan.
pub fn run(results: &mut Results) {
    results.take("the_kernel_is_locked_down", locked_down);
    results.take("doctor_says_so", doctor_says_so);
    let mut address = addresses();
    results.take("who_refused_is_inferred", || who_refused(address(V4)));
    let others: Vec<(&str, IpAddr, Fault)> =
        FAULTS.into_iter().filter(|(name, ..)| *name != "no_listener").collect();
    all_faults(results, &mut address, &others);
}

/// Else the other scenarios would prove nothing.
fn locked_down() -> Result<()> {
    let state =
        std::fs::read_to_string("/sys/kernel/security/lockdown").context("read the state of lockdown")?;
    ensure!(state.contains("[confidentiality]"), "lockdown is {state:?}");
    Ok(())
}

fn doctor_says_so() -> Result<()> {
    let doctor = run_within(Command::new("/bin/rstrace").arg("doctor"), PATIENCE)?;
    println!("{}{}", doctor.stdout, doctor.stderr);
    ensure!(doctor.code == Some(0) && doctor.stderr.is_empty(), "{doctor:?}");
    let line = doctor.stdout.lines().find(|line| line.starts_with("lockdown"));
    ensure!(line.is_some_and(|line| line.contains("confidentiality")), "doctor says {line:?} of lockdown");
    for (hook, state) in [("packet_dropped", "missing"), ("inet_sock_set_state", "attached")] {
        let row = doctor.stdout.lines().find(|line| line.split_whitespace().next() == Some(hook));
        let row = row.with_context(|| format!("doctor is silent on {hook}"))?;
        ensure!(row.split_whitespace().nth(1) == Some(state), "{row:?}: not {state}");
    }
    Ok(())
}

/// Which namespace sent the RST is read from its packet: without that a packet filter cannot be excluded.
fn who_refused(address: std::net::SocketAddr) -> Result<()> {
    let mut agent = Agent::watch(&["--all"])?;
    let cast = Fault::NobodyListens.bring_about(address)?;
    let line = agent.wait_for(&address.to_string(), VERDICT, |line| is_about(line, address))?.json;
    drop(cast);
    let told = [&line["cause"], &line["confidence"], &line["alternatives"]];
    let wanted = [json!("no_listener"), json!("inferred"), json!(["firewall_rejected"])];
    ensure!(told == wanted.each_ref(), "{line}");
    Ok(())
}
