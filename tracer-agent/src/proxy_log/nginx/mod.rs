//! nginx's logs.

mod access;
mod error;
mod log_format;

pub use access::{ADVICE, access_line};
pub use error::error_line;
pub use log_format::{LogFormat, LogFormatError};

/// nginx and what is built from it.
pub const COMMS: &[&str] = &["nginx", "openresty", "angie", "tengine"];
