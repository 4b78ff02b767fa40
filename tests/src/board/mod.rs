//! The scoreboard: every failure, on the servers that people run, seen from the whole host and from the gateway alone.
//!
//! A case breaks something and says nothing of verdicts; what must be said is in `fixtures/board`, whose oracle is the
//! injected fault and the proxy's own log. Each case plays once, with both watchers at the same time.

pub mod case;
pub mod cases;
pub mod dial;
pub mod expected;
pub mod go;
pub mod late;
mod program;
mod report;
mod runner;
pub mod scan;
mod stage;
mod tun;
mod watch;

pub use case::Case;
pub use program::Program;
pub use runner::{Options, Outcome, run};
pub use stage::Stage;
pub use tun::Tun;
