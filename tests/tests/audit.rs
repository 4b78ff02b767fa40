//! rstrace audits itself: what the kernel counts of a namespace was seen, or is explained.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::audit::{occupy, unexplained, wait_for};
use rstrace_tests::board::scan;
use rstrace_tests::client::{dial_refused, reset};
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::process::run_within;
use socket2::{Domain, Socket, Type};

/// A connection, and its accepted end.
fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// Data has come that nobody has read.
fn wait_for_data(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    ensure!(stream.peek(&mut [0])? == 1, "no data came");
    Ok(())
}

/// The peer has reset it.
fn wait_for_reset(mut stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let read = stream.read(&mut [0; 8]);
    ensure!(read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{read:?}");
    Ok(())
}

/// Closes with SO_LINGER 0, in each state in which the owner may.
fn lingering(listener: &TcpListener, each: u32) -> Result<()> {
    for _ in 0..each {
        let (client, server) = pair(listener)?;
        reset(client);
        wait_for_reset(&server)?;
        // After the peer's FIN.
        let (client, server) = pair(listener)?;
        server.shutdown(Shutdown::Write)?;
        ensure!((&client).read(&mut [0])? == 0, "no end of the stream");
        reset(client);
        // After its own FIN, which the peer acknowledges.
        let (client, mut server) = pair(listener)?;
        client.shutdown(Shutdown::Write)?;
        ensure!(server.read(&mut [0])? == 0, "no end of the stream");
        reset(client);
    }
    Ok(())
}

fn unread(listener: &TcpListener, count: u32) -> Result<()> {
    for _ in 0..count {
        let (mut client, server) = pair(listener)?;
        client.write_all(b"a request")?;
        wait_for_data(&server)?;
        drop(server);
        wait_for_reset(&client)?;
        // The same after the client's FIN, which takes a number too.
        let (mut client, server) = pair(listener)?;
        client.write_all(b"a request")?;
        client.shutdown(Shutdown::Write)?;
        wait_for_data(&server)?;
        drop(server);
        wait_for_reset(&client)?;
    }
    Ok(())
}

/// Writes until the RST for what was written has come.
fn write_until_reset(mut client: &TcpStream) -> Result<()> {
    rstrace_tests::process::poll("a RST", Duration::from_secs(5), || {
        client.write_all(b"a request").is_err().then_some(())
    })
}

/// Data for a socket that its owner has closed: of which only TIME_WAIT is left, and one that still has to send.
fn too_late(listener: &TcpListener, each: u32) -> Result<()> {
    for _ in 0..each {
        let (mut client, server) = pair(listener)?;
        drop(server);
        ensure!(client.read(&mut [0])? == 0, "no end of the stream");
        write_until_reset(&client)?;
        let (client, mut server) = pair(listener)?;
        server.set_nonblocking(true)?;
        while server.write(&[0; 65_536]).is_ok() {}
        drop(server);
        write_until_reset(&client)?;
    }
    Ok(())
}

fn healthy(listener: &TcpListener, count: u32) -> Result<()> {
    for _ in 0..count {
        let (mut client, mut server) = pair(listener)?;
        client.write_all(b"ping")?;
        server.read_exact(&mut [0; 4])?;
        drop(client);
        ensure!(server.read(&mut [0])? == 0, "no end of the stream");
    }
    Ok(())
}

/// A connect that nobody answers, given up by the kernel after the first retransmission.
fn timed_out(address: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    let milliseconds: libc::c_int = 300;
    // SAFETY: the pointer and the size describe `milliseconds`, which outlives the call.
    let set = unsafe {
        let (value, size) = ((&raw const milliseconds).cast(), size_of_val(&milliseconds) as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, value, size)
    };
    ensure!(set == 0, "{}", std::io::Error::last_os_error());
    let error = socket.connect(&address.into()).err().context("somebody answered")?;
    ensure!(error.raw_os_error() == Some(libc::ETIMEDOUT), "{error}");
    Ok(())
}

/// A connect that its owner gives up: no failure to the kernel.
fn given_up(address: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    ensure!(socket.connect_timeout(&address.into(), Duration::from_millis(20)).is_err(), "somebody answered");
    Ok(())
}

fn nothing_is_missed(family: Family) -> Result<()> {
    let mut net = Net::create(Link::Loopback, family)?;
    let dead = net.dead_upstream()?;
    let nobody = net.free_upstream();
    let _occupant = occupy(net.gateway())?;
    let agent = Agent::start(false)?;
    dial_refused(net.gateway(), nobody, 40)?;
    net.gateway().enter(|| -> Result<()> {
        let listener = TcpListener::bind(net.free_upstream())?;
        lingering(&listener, 3).context("SO_LINGER 0")?;
        unread(&listener, 4).context("unread data")?;
        too_late(&listener, 5).context("data for a closed socket")?;
        healthy(&listener, 20).context("healthy connections")?;
        timed_out(dead)?;
        given_up(dead)?;
        Ok(())
    })??;
    let socket = agent.socket();
    // Refused, SO_LINGER 0 in three states, unread data, data too late.
    let out_rsts = 40 + 9 + 8 + 10;
    let audited = wait_for(&socket, net.gateway().inode(), "all RSTs and no gap", |audited| {
        audited.kernel("OutRsts") == out_rsts && audited.all_gaps().is_empty()
    })?;
    // Without a gap, what is said of the kernel holds for what was seen.
    let (kernel, seen) = (audited.kernel("OutRsts"), audited.seen("OutRsts"));
    ensure!(kernel == seen, "{kernel} and {seen}");
    for (counter, count) in [("AttemptFails", 40 + 1), ("TCPAbortOnTimeout", 1)] {
        ensure!(audited.kernel(counter) == count, "{counter} is not {count}: {audited:?}");
    }
    // Data that comes before the other end has acknowledged the FIN finds the socket, later only TIME_WAIT. (A child that
    // another test has just forked may keep a socket open for a moment; what comes meanwhile is unread at its close.)
    let [on_close, on_data] = ["TCPAbortOnClose", "TCPAbortOnData"].map(|counter| audited.kernel(counter));
    ensure!(on_close >= 8 && on_data >= 9 && on_close + on_data >= 8 + 9 + 5, "{audited:?}");
    ensure!(audited.kernel("EstabResets") > 10, "{audited:?}");
    let doctor = Command::new(binary()?).arg("doctor").arg("--socket").arg(&socket).output()?;
    let text = String::from_utf8_lossy(&doctor.stdout);
    let line =
        text.lines().find(|line| line.starts_with("OutRsts")).context("doctor is silent on OutRsts")?;
    ensure!(line.contains("kernel") && line.contains("rstrace"), "{text}");
    Ok(())
}

#[test]
fn nothing_is_missed_ipv4() -> Result<()> {
    nothing_is_missed(Family::V4)
}

#[test]
fn nothing_is_missed_ipv6() -> Result<()> {
    nothing_is_missed(Family::V6)
}

/// A scanner has no socket for the answer to its SYN, so its own kernel resets what the listener's takes for the
/// beginning of a connection.
#[test]
fn handshakes_that_peers_give_up_are_a_gap_that_is_explained() -> Result<()> {
    let net = Net::create(Link::Loopback, Family::V4)?;
    let _occupant = occupy(net.gateway())?;
    let agent = Agent::start(false)?;
    let listening = net.free_upstream();
    let _listener = net.gateway().enter(|| TcpListener::bind(listening))??;
    let ip = listening.ip();
    for _ in 0..3 {
        scan::syn(net.gateway(), ip, ip, std::iter::once(listening.port()))?;
    }
    // And ports where nobody listens (below those that tests take): one RST each, and no failed attempt.
    scan::syn(net.gateway(), ip, ip, 5_000..5_100)?;
    let why = Some("handshakes_given_up".to_owned());
    let socket = agent.socket();
    let audited = wait_for(&socket, net.gateway().inode(), "103 RSTs and an explanation", |audited| {
        audited.kernel("OutRsts") == 103 && audited.gaps("AttemptFails") == [(3, why.clone())]
    })?;
    ensure!(audited.unexplained().is_empty(), "{audited:?}");
    let left = unexplained(&socket, &|inode| net.owns(inode))?;
    ensure!(left.is_empty(), "{left:?}");
    ensure!(audited.seen("OutRsts") == 103, "{audited:?}");
    let mut doctor = Command::new(binary()?);
    let doctor = run_within(doctor.arg("doctor").arg("--socket").arg(&socket), Duration::from_secs(30))?;
    let says = "the kernel counted 3 failed connects or handshakes that rstrace did not see: peers gave up";
    ensure!(doctor.stdout.contains(says), "{}", doctor.stdout);
    Ok(())
}

/// Namespaces come and go: one that is first met while the agent runs is compared from then on.
#[test]
fn a_namespace_that_comes_later_is_compared_from_then_on() -> Result<()> {
    let agent = Agent::start(false)?;
    let net = Net::create(Link::Loopback, Family::V4)?;
    let nobody = net.free_upstream();
    // Before anybody could look: not compared.
    dial_refused(net.gateway(), nobody, 5)?;
    let _occupant = occupy(net.gateway())?;
    let socket = agent.socket();
    wait_for(&socket, net.gateway().inode(), "the namespace", |_| true)?;
    dial_refused(net.gateway(), nobody, 7)?;
    let audited =
        wait_for(&socket, net.gateway().inode(), "7 RSTs", |audited| audited.kernel("OutRsts") == 7)?;
    ensure!(audited.all_gaps().is_empty(), "{audited:?}");
    let scrape = agent.scrape()?;
    let total = |source| scrape.sum("rstrace_netstat_total", &[("counter", "OutRsts"), ("source", source)]);
    ensure!(total("kernel") >= 7.0 && total("seen") >= 7.0, "{} and {}", total("kernel"), total("seen"));
    Ok(())
}
