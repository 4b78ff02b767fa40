//! The gateway ends the connection, of itself or because its client left.

rstrace_tests::over_every_path!(Host: gateway_timeout_1s, gateway_timeout_2s, client_gone);
