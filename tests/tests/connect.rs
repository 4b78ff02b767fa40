//! The connection is never made.

rstrace_tests::over_every_path!(Host: no_listener, no_listener_any_more, connect_timeout);
