//! Ends that harmed nobody: silence, and with `--all` their names.

mod shown_to_who_asks_for_all {
    rstrace_tests::over_every_path!(HostAll: idle_close, graceful, graceful_by_the_gateway);
}

mod silent {
    rstrace_tests::over_every_path!(Host: idle_close, graceful, graceful_by_the_gateway);
}
