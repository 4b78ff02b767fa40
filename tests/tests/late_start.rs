//! The agent starts after the server and the gateway: it must find what was there before it.

rstrace_tests::over_every_path!(LateHost:
    process_crashed, process_killed, no_listener_any_more, gateway_timeout_1s, closed_unread_data,
    process_crashed_on_an_older_connection,
);
