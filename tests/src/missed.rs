//! What failed while the kernel let rstrace miss something, and playing it again.

use std::net::SocketAddr;

use anyhow::{Error, Result};

use crate::scrape::Scrape;

/// How often something is played that failed through no fault of rstrace.
const PLAYS: u32 = 4;

/// What failed while rstrace's programs did not run for all that happened: the kernel skips one that would interrupt
/// itself on a CPU (`recursion`, which it counts), and on some virtual machines it runs no program at all in a softirq that
/// interrupts a process of the machine's own (docs/performance.md), which only the audit tells. What rstrace said is no
/// more than it could know.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {failed}")]
pub struct Missed {
    pub what: String,
    pub failed: String,
}

/// What an agent says at this address of its metrics that it has lost, a line each; nothing of a `watch`, which serves none.
pub fn lost(listen: SocketAddr) -> String {
    if listen.port() == 0 {
        return String::new();
    }
    let scrape = match Scrape::of(listen) {
        Ok(scrape) => scrape,
        Err(error) => return format!("its metrics: {error:#}\n"),
    };
    let lost = scrape.matching("rstrace_events_lost_total", &[]).filter(|sample| sample.value > 0.0);
    lost.map(|sample| format!("lost since it started: {:?} {}\n", sample.labels, sample.value)).collect()
}

/// Why what failed was missed: the agent has lost this meanwhile, or the kernel counted gaps that nothing explains.
#[must_use]
pub fn why(lost: Option<String>, gaps: &[String]) -> Option<String> {
    let gaps = (!gaps.is_empty()).then(|| gaps.join(", "));
    let lost = lost.map(|lost| format!("the agent has lost events ({lost})"));
    lost.or_else(|| gaps.map(|gaps| format!("the kernel counted what no program ran for ({gaps})")))
}

/// Plays until it fails for no such reason, and says so each time.
///
/// # Errors
/// As `play`.
pub fn again<T>(name: &str, excused: fn(&Error) -> bool, play: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..PLAYS {
        match play() {
            Err(error) if excused(&error) => {
                let why = error.to_string();
                eprintln!("{name} is played again: {}", why.lines().next().unwrap_or_default());
            }
            played => return played,
        }
    }
    play()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::bail;

    use super::*;

    #[test]
    fn only_what_is_excused_is_played_again_and_not_for_ever() {
        let missed = || Missed { what: "recursion".into(), failed: "a line is missing".into() };
        for (excused, plays) in [(true, PLAYS), (false, 1)] {
            let played = Cell::new(0);
            let ended: Result<()> = again("a test", Error::is::<Missed>, || {
                played.set(played.get() + 1);
                if excused { Err(missed().into()) } else { bail!("wrong") }
            });
            assert!(ended.is_err());
            assert_eq!(played.get(), plays);
        }
    }
}
