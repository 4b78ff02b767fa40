//! rstrace: of every upstream connection, who ended it, why, and whether a request was lost.
//!
//! The data path is the layout: `kernel` (hooks, ring, maps) -> `event` (decoded records) -> `table` (what is
//! remembered) -> `verdict` (rules) -> `output` (lines, metrics). The left never knows the right; `event`,
//! `table` and `verdict` are pure. `agent` is the loop that joins them, `recording` keeps what
//! went into it and judges it again, `proxy_log` reads what proxies say of the same connections, `command` is what
//! can be typed.

pub mod agent;
pub mod audit;
pub mod cli;
pub mod command;
pub mod enrich;
pub mod event;
pub mod kernel;
pub mod output;
pub mod proxy_log;
pub mod recording;
pub mod table;
pub mod top;
pub mod verdict;
