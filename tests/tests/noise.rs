//! What harmed nobody, or nobody but its own doer, must stay silent.

rstrace_tests::over_every_path!(Host:
    a_client_that_gives_up, a_probe_without_a_request, a_slow_answer, a_server_that_ends_idle,
    a_server_that_ends_with_kept_connections,
);
