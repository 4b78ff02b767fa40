//! What the gateway can know alone: `watch --vantage` on its namespace, as if the upstream were another
//! machine. By and cause are right, or the coarser class with the truth among its alternatives.

rstrace_tests::over_veth!(Gateway:
    no_listener, process_crashed, process_aborted, process_exited, process_killed, oom_killed,
    closed_without_response, reset_without_response, closed_unread_data, reset_mid_response,
    gateway_timeout_1s, gateway_timeout_2s, client_gone, connect_timeout, idle_close, graceful,
    graceful_by_the_gateway,
);
