//! The faults themselves, without rstrace: nginx's own log must show each of them, else a red test elsewhere
//! would say nothing about rstrace.

rstrace_tests::over_every_path!(Nobody:
    no_listener, no_listener_any_more, process_crashed, process_aborted, process_exited, process_killed,
    oom_killed, closed_without_response, reset_without_response, closed_unread_data, reset_mid_response,
    gateway_timeout_1s, client_gone, connect_timeout, idle_close, graceful, graceful_by_the_gateway,
    process_crashed_on_a_kept_connection, process_crashed_with_two_in_flight, a_close_and_then_a_reset,
    a_client_that_gives_up, a_probe_without_a_request, a_slow_answer, a_server_that_ends_idle,
    a_server_that_ends_with_kept_connections,
);
