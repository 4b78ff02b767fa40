//! What turns numbers and paths into names that an operator knows.
//!
//! It takes text apart; only `gateways` also fetches it, on a thread of its own.

pub mod container;
pub mod gateways;
