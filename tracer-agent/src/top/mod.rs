//! What `rstrace top` shows: which upstreams lose requests, at this moment and in the minutes before it.
//!
//! `board` counts (verdicts and moments in, rows out), `plain` spells its rows for pipes, `app` is what the keys have
//! chosen, `screen` draws it. All of that is pure. Only `terminal` and `input` touch the terminal. What speaks with the
//! agent is the command, `command::top`.

pub mod board;
pub mod cells;
pub mod pace;
pub mod plain;
pub mod row;
pub mod upstream;

#[cfg(feature = "top")]
pub mod app;
#[cfg(feature = "top")]
pub mod input;
#[cfg(feature = "top")]
pub mod screen;
#[cfg(feature = "top")]
pub mod terminal;

#[cfg(test)]
mod fixture;
