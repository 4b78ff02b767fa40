//! What turns numbers and paths into names that an operator knows.
//!
//! Works on text that was read elsewhere; it opens nothing itself.

pub mod container;
