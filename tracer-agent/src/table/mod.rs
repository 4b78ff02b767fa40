//! What is remembered: ended connections that wait for their story, listeners with their history, processes.
//!
//! Pure: `(event, now)` in, values out. Everything is bounded; what a full table gives up is counted.

mod ages;
mod bounded;
mod bursts;
mod connections;
mod connects;
mod holders;
mod learned;
mod legs;
mod listeners;
mod lookups;
mod namespaces;
mod processes;
mod questions;
mod queue_drops;
mod search_list;
mod tables;
mod unix_paths;
mod waiting;

pub use ages::{Ages, Closing, Repetition, SHORTEST_TIMEOUT_MS, Wait, alike, as_configured, idle_limit};
pub use bounded::{Bounded, Fill};
pub use bursts::{Burst, Bursts};
pub use connections::Connections;
pub use connects::Connects;
pub use learned::Learned;
pub use legs::{ClientLeft, Legs};
pub use listeners::{LastListener, Listeners, Listening, Queue};
pub use lookups::{Lookup, Lookups, NXDOMAIN, Outcome, PATIENCE_NS, Query};
pub use processes::{Exited, Processes, Signalled};
pub use questions::{Question, Questions};
pub use queue_drops::Drops;
pub use tables::{Settings, Tables};
pub use unix_paths::{LastServer, UnixPaths};
pub use waiting::{Ended, SETTLE_NS, Waiting};
