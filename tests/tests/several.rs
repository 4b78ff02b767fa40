//! More than one connection or request: kept connections, several in flight, one break after another.

rstrace_tests::over_every_path!(Host:
    process_crashed_on_a_kept_connection, process_crashed_with_two_in_flight, a_close_and_then_a_reset,
);
