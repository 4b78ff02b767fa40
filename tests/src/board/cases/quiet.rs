//! What harms nobody: healthy ends of every kind, probes, kept connections, reloads.

mod answers;
mod kept;
mod probes;

use anyhow::Result;

use crate::board::{Case, Stage};
use crate::client::reset;

pub const CASES: &[Case] = &[
    Case::new("healthy_close", |stage| answers::once(stage, "/ok", 200)),
    Case::new("connection_close_with_length", |stage| answers::once(stage, "/closing", 200)),
    Case::new("close_delimited", |stage| answers::once(stage, "/until-close", 200)),
    Case::new("close_delimited_on_http_11", |stage| answers::kept(stage, "/until-close", 200)),
    Case::new("chunked", |stage| answers::kept(stage, "/chunked", 200)),
    Case::new("no_content", |stage| answers::kept(stage, "/204", 204)),
    Case::new("not_modified", |stage| answers::kept(stage, "/304", 304)),
    Case::new("head", answers::head),
    Case::new("continue_100", answers::continue_100),
    Case::new("accel_redirect", answers::accel_redirect),
    Case::new("intercepted_error", answers::intercepted_error),
    Case::new("early_answer_lingering", answers::early_answer_lingering),
    Case::new("long_download", answers::long_download),
    Case::new("slow_reader", answers::slow_reader),
    Case::new("large_upload", answers::large_upload),
    Case::new("masked_refusal", answers::masked_refusal),
    Case::new("load", answers::load),
    Case::new("reuse", kept::reuse),
    Case::new("one_port_again_and_again", kept::one_port),
    Case::new("idle_close_by_the_upstream", kept::idle_close_by_the_upstream),
    Case::new("idle_close_by_the_gateway", kept::idle_close_by_the_gateway),
    Case::new("idle_server_exits", kept::exits),
    Case::new("idle_server_terminated", |stage| kept::signalled(stage, "TERM")),
    Case::new("idle_server_killed", |stage| kept::signalled(stage, "KILL")),
    Case::new("kept_server_killed_soon", kept::killed_soon),
    Case::new("reload", |stage| kept::told(stage, "HUP")),
    Case::new("graceful_stop", |stage| kept::told(stage, "QUIT")),
    Case::new("upstream_reload", |stage| kept::upstream_told(stage, "HUP")),
    Case::new("upstream_graceful_stop", |stage| kept::upstream_told(stage, "QUIT")),
    Case::new("websocket", kept::websocket),
    Case::new("websocket_idle", kept::websocket_idle),
    Case::new("probes_that_close", |stage| probes::probes(stage, drop)),
    Case::new("probes_that_reset", |stage| probes::probes(stage, reset)),
    Case::new("probes_of_the_gateway", probes::of_the_gateway),
    Case::new("half_closed_client", probes::half_closed_client),
    Case::new("half_closed_to_the_server", probes::half_closed_to_the_server),
    Case::new("program_gives_up", probes::program_gives_up),
    Case::new("program_leaves_before_the_answer", probes::leaves_before_the_answer),
    Case::new("listener_closes", probes::listener_closes),
    Case::new("listener_killed", probes::listener_killed),
    Case::new("syn_scan", probes::syn_scan),
];

/// Starts nginx as the gateway: `location` are lines of its only location, which proxies to the upstream.
fn start_gateway(stage: &mut Stage, location: &str) -> Result<()> {
    let (gateway, upstream) = (stage.gateway(), stage.upstream());
    stage.start_nginx_with(&format!(
        "upstream tested {{ server {upstream} max_fails=0; keepalive 4; keepalive_timeout 10s; }}\n\
         server {{ listen {gateway}; client_max_body_size 0; proxy_http_version 1.1;\n\
         location / {{ proxy_pass http://tested; proxy_set_header Connection \"\"; {location} }}\n\
         location = /here {{ internal; return 200 here; }} }}"
    ))
}

/// Starts another nginx as the upstream; `server` are lines of its only server.
fn start_web(stage: &mut Stage, server: &str) -> Result<()> {
    let upstream = stage.upstream();
    let file = stage.write(
        "web.conf",
        &format!(
            "user root; daemon off; pid web.pid; error_log stderr info; worker_processes 1;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen {upstream}; {server} }} }}\n"
        ),
    )?;
    let mut web = stage.net().upstream().command("nginx")?;
    web.arg("-p").arg(stage.folder()).arg("-c").arg(file).args(["-e", "stderr"]);
    stage.start_upstream("web", web)
}
