//! The words for names that did not resolve.

use super::{named, seconds};
use crate::event::errno::ECONNREFUSED;
use crate::table::{Lookup, NXDOMAIN, Outcome, PATIENCE_NS, Query};

/// Facts at most: a lookup of both types along a search list sends many queries.
const FACTS: usize = 8;

/// One sentence that an operator can act on.
pub fn summary(lookup: &Lookup) -> String {
    let query = lookup.decisive();
    let (name, owner, resolver) = (lookup.name(), named(lookup.owner()), query.asked.resolver);
    match query.outcome {
        Outcome::Code(NXDOMAIN) => {
            format!("{owner} has no address for {name}: there is no such name, says the resolver {resolver}")
        }
        Outcome::NoData => {
            format!("{owner} has no address for {name}: the resolver {resolver} knows the name without any")
        }
        Outcome::Code(code) => {
            format!("{owner} has no address for {name}: the resolver {resolver} answered {}", code_name(code))
        }
        Outcome::Errno(ECONNREFUSED) => {
            format!("{owner} has no address for {name}: nothing listens at its resolver {resolver}")
        }
        Outcome::Errno(errno) => {
            format!(
                "{owner} has no address for {name}: its resolver {resolver} cannot be asked (errno {errno})"
            )
        }
        Outcome::Silence => format!(
            "{owner} has no address for {name}: its resolver {resolver} has not answered within {}",
            seconds(PATIENCE_NS as f64 / 1e6)
        ),
    }
}

/// The facts, one short sentence each: what was asked, and what came back.
pub fn evidence(lookup: &Lookup) -> Vec<String> {
    let mut facts: Vec<String> = lookup.queries.iter().take(FACTS).map(fact).collect();
    let left_out = lookup.queries.len() - facts.len();
    if left_out > 0 {
        facts.push(format!("{left_out} more queries, without an answer that helps"));
    }
    if lookup.repeated {
        facts.push("it had failed alike less than 30 s before, which was told".to_owned());
    }
    facts
}

fn fact(query: &Query) -> String {
    let asked = &query.asked;
    let times = if query.sent == 1 { String::new() } else { format!(" {} times", query.sent) };
    let came_back = match query.outcome {
        Outcome::Silence => "no answer".to_owned(),
        Outcome::Errno(ECONNREFUSED) => "ICMP port unreachable".to_owned(),
        Outcome::Errno(errno) => format!("errno {errno}"),
        Outcome::NoData => format!("NOERROR without a record{}", after(query)),
        Outcome::Code(code) => format!("{}{}", code_name(code), after(query)),
    };
    format!("{} of {} asked of {}{times}: {came_back}", asked.query_type, asked.name, asked.resolver)
}

/// The programs' own clock, so finer than a tick.
fn after(query: &Query) -> String {
    format!(" after {:.1} ms", query.since_ns.saturating_sub(query.asked.ktime_ns) as f64 / 1e6)
}

/// Names of RFC 1035 and 2136.
fn code_name(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        NXDOMAIN => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE {other}"),
    }
}
