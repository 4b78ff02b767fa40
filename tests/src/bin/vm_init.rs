//! The first and only program of the virtual machines of `cargo xtask vm`: their `/init`.
//!
//! It makes the machine usable, runs the plan that the kernel's command line names (`smoke`,
//! `refusal` or `lockdown`), prints one line for each scenario on the console and powers off. The gateway is this
//! process itself, the upstream is `fault_server`, all on loopback; what must be said of each fault
//! is in the fixtures of the integration tests. As `vm_init kill PID` it is the process that kills.

#![expect(clippy::print_stdout, reason = "the console is how the machine talks to the host")]

#[path = "../vm/clock.rs"]
mod clock;
#[path = "../vm/dns.rs"]
mod dns;
#[path = "../vm/expect.rs"]
mod expect;
#[path = "../vm/fault.rs"]
mod fault;
#[path = "../vm/fins.rs"]
mod fins;
#[path = "../vm/gateway.rs"]
mod gateway;
#[path = "../vm/lockdown.rs"]
mod lockdown;
#[path = "../vm/machine.rs"]
mod machine;
#[path = "../vm/refusal.rs"]
mod refusal;
#[path = "../vm/results.rs"]
mod results;
#[path = "../vm/smoke.rs"]
mod smoke;
#[path = "../vm/upstream.rs"]
mod upstream;
#[path = "../vm/verifier.rs"]
mod verifier;

use std::process::ExitCode;

use results::Results;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (std::process::id(), &arguments[..]) {
        (1, [plan]) => live(plan),
        (_, ["kill", pid]) => upstream::kill(pid),
        _ => {
            eprintln!("vm_init is the /init of the machines of `cargo xtask vm`: run that");
            ExitCode::from(2)
        }
    }
}

fn live(plan: &str) -> ExitCode {
    let mut results = Results::default();
    let ready = results.take("machine", machine::prepare);
    match plan {
        _ if !ready => {}
        "smoke" => smoke::run(&mut results),
        "refusal" => refusal::run(&mut results),
        "lockdown" => lockdown::run(&mut results),
        other => {
            results.take("plan", || Err(anyhow::anyhow!("no plan is called {other:?}")));
        }
    }
    results.done();
    machine::power_off();
    // The kernel panics when /init ends, and the machine with it: it is off one way or the other.
    ExitCode::FAILURE
}
