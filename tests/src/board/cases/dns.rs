//! Names that the gateway cannot resolve, and what looks like it. The resolver is on the upstream's side.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::board::{Case, Stage};
use crate::netns::Family;

pub const CASES: &[Case] = &[
    Case::new("nxdomain", nxdomain),
    Case { family: Family::V6, ..Case::new("nxdomain_ipv6", nxdomain) },
    Case::new("nxdomain_at_another_port", nxdomain_at_another_port),
    Case::new("nxdomain_on_each_request", nxdomain_on_each_request),
    Case::new("no_address", |stage| fails_at_once(stage, &[LOCAL, "--txt-record=api.internal,hello"])),
    Case::new("refused", |stage| fails_at_once(stage, &[])),
    Case::new("servfail", servfail),
    Case::new("port_closed", |stage| fails_after(stage, 3, "ipv6=on")),
    Case::new("port_closed_one_type", |stage| fails_after(stage, 2, "ipv6=off")),
    Case::new("silent", silent),
    Case::new("dropped", dropped),
    Case::new("resolver_without_its_own", resolver_without_its_own),
    Case::new("one_of_two_resolvers_closed", one_of_two_resolvers_closed),
    Case::new("healthy", healthy),
    Case::new("haproxy_nxdomain", haproxy_nxdomain),
    Case::new("client_program", client_program),
];

/// The resolver answers for all names in this zone itself.
const LOCAL: &str = "--local=/internal/";
/// The resolver's port.
const DOMAIN: u16 = 53;
/// RCODE 2 (RFC 1035, 4.1.1).
const SERVFAIL: u8 = 2;
/// How long a resolver says nothing before that is taken for a failure; see `docs/causes.md`.
const PATIENCE: Duration = Duration::from_secs(7);

fn resolver(stage: &Stage) -> SocketAddr {
    SocketAddr::new(stage.upstream().ip(), DOMAIN)
}

fn start_dnsmasq(stage: &mut Stage, options: &[&str]) -> Result<()> {
    start_dnsmasq_at(stage, resolver(stage), options)
}

fn start_dnsmasq_at(stage: &mut Stage, at: SocketAddr, options: &[&str]) -> Result<()> {
    let mut dnsmasq = stage.net().upstream().command("dnsmasq")?;
    dnsmasq.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
    ]);
    dnsmasq.args(["--bind-interfaces", "--pid-file=", "--log-facility=-"]);
    dnsmasq.arg(format!("--listen-address={}", at.ip())).arg(format!("--port={}", at.port())).args(options);
    stage.start_program("dnsmasq", dnsmasq)?;
    stage.wait_for_listener(at)
}

/// The gateway resolves `api.internal` for each request, with these words after the resolvers' addresses.
fn start_nginx(stage: &mut Stage, resolvers: &str, timeout_seconds: u32) -> Result<()> {
    let (gateway, port) = (stage.gateway(), stage.upstream().port());
    stage.start_nginx_with(&format!(
        "server {{ listen {gateway}; resolver {resolvers} valid=1s; resolver_timeout {timeout_seconds}s;
          location / {{ set $upstream http://api.internal:{port}; proxy_pass $upstream; }} }}"
    ))
}

fn fails_at_once(stage: &mut Stage, options: &[&str]) -> Result<()> {
    start_dnsmasq(stage, options)?;
    start_nginx(stage, &resolver(stage).to_string(), 30)?;
    stage.demand("/ok", 502)
}

fn nxdomain(stage: &mut Stage) -> Result<()> {
    fails_at_once(stage, &[LOCAL])
}

/// Where 53 is taken; this is the port of Consul.
fn nxdomain_at_another_port(stage: &mut Stage) -> Result<()> {
    let at = SocketAddr::new(stage.upstream().ip(), 8600);
    start_dnsmasq_at(stage, at, &[LOCAL])?;
    start_nginx(stage, &at.to_string(), 30)?;
    stage.demand("/ok", 502)
}

fn nxdomain_on_each_request(stage: &mut Stage) -> Result<()> {
    nxdomain(stage)?;
    (0..4).try_for_each(|_| {
        // (The next resolution has to be one of its own.)
        thread::sleep(Duration::from_millis(300));
        stage.demand("/ok", 502)
    })
}

/// Nothing but a 502 after so many seconds, and then nothing until the silence has been long enough.
fn fails_after(stage: &mut Stage, seconds: u32, words: &str) -> Result<()> {
    let start = Instant::now();
    start_nginx(stage, &format!("{} {words}", resolver(stage)), seconds)?;
    stage.demand("/ok", 502)?;
    thread::sleep(PATIENCE.saturating_sub(start.elapsed()));
    Ok(())
}

fn silent(stage: &mut Stage) -> Result<()> {
    let _bound = bind(stage)?;
    fails_after(stage, 8, "")
}

fn dropped(stage: &mut Stage) -> Result<()> {
    start_dnsmasq(stage, &[LOCAL])?;
    stage.run_in_upstream(&["nft", "add table ip filter"])?;
    stage.run_in_upstream(&["nft", "add chain ip filter input { type filter hook input priority 0; }"])?;
    stage.run_in_upstream(&["nft", "add rule ip filter input udp dport 53 drop"])?;
    fails_after(stage, 3, "")
}

/// It forwards to where nobody answers, and so does not answer either.
fn resolver_without_its_own(stage: &mut Stage) -> Result<()> {
    start_dnsmasq(stage, &["--server=127.0.0.1#9"])?;
    fails_after(stage, 3, "")
}

fn servfail(stage: &mut Stage) -> Result<()> {
    let _failing = Failing::start(bind(stage)?)?;
    start_nginx(stage, &resolver(stage).to_string(), 30)?;
    stage.demand("/ok", 502)
}

/// The gateway asks the other one, and its client never learns of it.
fn one_of_two_resolvers_closed(stage: &mut Stage) -> Result<()> {
    start_healthy(stage)?;
    let closed = SocketAddr::new(stage.gateway().ip(), DOMAIN);
    start_nginx(stage, &format!("{closed} {}", resolver(stage)), 30)?;
    (0..4).try_for_each(|_| stage.demand("/ok", 200))
}

fn healthy(stage: &mut Stage) -> Result<()> {
    start_healthy(stage)?;
    start_nginx(stage, &resolver(stage).to_string(), 30)?;
    stage.demand("/ok", 200)?;
    // It is asked for again once what is known has expired.
    thread::sleep(Duration::from_millis(2100));
    stage.demand("/ok", 200)
}

/// The name has an IPv4 address and no IPv6 address.
fn start_healthy(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    start_dnsmasq(stage, &[LOCAL, &format!("--host-record=api.internal,{}", stage.upstream().ip())])
}

fn haproxy_nxdomain(stage: &mut Stage) -> Result<()> {
    start_dnsmasq(stage, &[LOCAL, "--log-queries"])?;
    let (gateway, resolver, port) = (stage.gateway(), resolver(stage), stage.upstream().port());
    stage.start_haproxy(&format!(
        "global\n  log stdout format raw local0\n\
         defaults\n  mode http\n  log global\n  option httplog\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
         resolvers own\n  nameserver first {resolver}\n  timeout resolve 1s\n  timeout retry 1s\n\
         frontend clients\n  bind {gateway}\n  default_backend api\n\
         backend api\n  server one api.internal:{port} resolvers own init-addr none check inter 1s\n"
    ))?;
    stage.program("dnsmasq")?.wait_to_say("api.internal is NXDOMAIN", Duration::from_secs(10))?;
    stage.demand("/ok", 503)
}

/// A curl in the gateway's namespace asks for a name that does not exist.
fn client_program(stage: &mut Stage) -> Result<()> {
    start_dnsmasq(stage, &[LOCAL, "--log-queries"])?;
    start_healthy_gateway(stage)?;
    let file = stage.write("resolv.conf", &format!("nameserver {}\n", stage.upstream().ip()))?;
    let script = "mount --bind \"$0\" /etc/resolv.conf && ! curl --silent http://api.internal/";
    stage.run_in_gateway(&["unshare", "--mount", "sh", "-c", script, &file.to_string_lossy()])?;
    stage.program("dnsmasq")?.wait_to_say("api.internal is NXDOMAIN", Duration::from_secs(5))
}

fn start_healthy_gateway(stage: &mut Stage) -> Result<()> {
    stage.start_fault_server(&[])?;
    stage.start_nginx(&crate::nginx::GatewayOptions::default())?;
    stage.demand("/ok", 200)
}

/// The resolver's port, taken by somebody who never answers.
fn bind(stage: &Stage) -> Result<UdpSocket> {
    let resolver = resolver(stage);
    Ok(stage.net().upstream().enter(|| UdpSocket::bind(resolver))??)
}

/// A resolver that fails at everything, until it is dropped.
#[derive(Debug)]
struct Failing {
    _socket: Arc<UdpSocket>,
}

impl Failing {
    fn start(socket: UdpSocket) -> Result<Self> {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let socket = Arc::new(socket);
        let weak = Arc::downgrade(&socket);
        thread::spawn(move || answer(&weak));
        Ok(Self { _socket: socket })
    }
}

fn answer(socket: &Weak<UdpSocket>) {
    let mut message = [0; 512];
    while let Some(socket) = socket.upgrade() {
        if let Ok((length, asker)) = socket.recv_from(&mut message)
            && length >= 12
        {
            // QR in the third byte; RA and the code in the fourth.
            message[2] |= 0x80;
            message[3] = 0x80 | SERVFAIL;
            let _ = socket.send_to(&message[..length], asker);
        }
    }
}
