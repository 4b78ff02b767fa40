//! The upstream ends the connection with a request in flight: its process dies, or it closes or resets.

rstrace_tests::over_every_path!(Host:
    process_crashed, process_aborted, process_exited, process_killed, oom_killed, closed_without_response,
    reset_without_response, closed_unread_data, reset_mid_response,
);
