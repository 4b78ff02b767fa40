//! The stage of a case: namespaces, programs, and the steps that cases share. It judges nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::program::Program;
use super::tun::Tun;
use crate::client::{Outcome, Request};
use crate::netns::{Link, Namespace, Net, unique_port};
use crate::nginx::{GatewayOptions, Nginx};
use crate::process::{poll, run};
use crate::server::Server;

/// Where a case plays. What was started first is dropped last, but for the namespaces, which go at the very end.
#[derive(Debug)]
pub struct Stage {
    logs: Vec<PathBuf>,
    nginx: Option<Nginx>,
    programs: Vec<(String, Program)>,
    pub server: Option<Server>,
    tun: Option<Tun>,
    net: Net,
    folder: TempDir,
    upstream: SocketAddr,
    gateway: SocketAddr,
}

impl Stage {
    pub(super) fn set(mut net: Net) -> Result<Self> {
        let tun = if net.link == Link::Tun { Some(Tun::join(&mut net)?) } else { None };
        let upstream = net.free_upstream();
        let gateway = SocketAddr::new(net.gateway_ip(), unique_port());
        let folder = tempfile::Builder::new().prefix("rstrace-board-").tempdir()?;
        // Servers drop their privileges, and must still reach their files.
        run(Command::new("chmod").arg("755").arg(folder.path()))?;
        Ok(Self {
            logs: Vec::new(),
            nginx: None,
            programs: Vec::new(),
            server: None,
            tun,
            net,
            folder,
            upstream,
            gateway,
        })
    }

    /// The address of the upstream under test. Nothing listens there until a case starts something.
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// Where the gateway accepts clients.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    pub fn net(&self) -> &Net {
        &self.net
    }

    pub fn net_mut(&mut self) -> &mut Net {
        &mut self.net
    }

    /// Makes another address the upstream under test.
    pub fn set_upstream(&mut self, upstream: SocketAddr) {
        self.upstream = upstream;
    }

    /// The delaying link; only over `Link::Tun`.
    ///
    /// # Errors
    /// Over any other link.
    pub fn tun(&self) -> Result<&Tun> {
        self.tun.as_ref().context("this case is not over Link::Tun")
    }

    /// A folder of this case's own, readable by everybody.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts the fault server as the upstream; see `src/bin/fault_server.rs`.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start_fault_server(&mut self, arguments: &[&str]) -> Result<()> {
        self.server = Some(Server::start(self.net.upstream(), self.upstream, arguments, None)?);
        Ok(())
    }

    /// The fault server.
    ///
    /// # Errors
    /// When there is none.
    pub fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().context("this case has no fault server")
    }

    /// Starts a program in the upstream's namespace and waits until something listens at the upstream's address.
    ///
    /// # Errors
    /// When nothing does within 20 s.
    pub fn start_upstream(&mut self, name: &str, command: Command) -> Result<()> {
        self.start_program(name, command)?;
        self.wait_for_listener(self.upstream)
    }

    /// Starts a program: `net().upstream().command(…)` or `net().gateway().command(…)` say where.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(&mut self, name: &str, command: Command) -> Result<()> {
        let log = self.folder.path().join(format!("{name}.log"));
        let program = Program::start(command, &log)?;
        self.programs.push((name.to_owned(), program));
        Ok(())
    }

    /// A program that was started under this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn program(&mut self, name: &str) -> Result<&mut Program> {
        let found = self.programs.iter_mut().rev().find(|(known, _)| known == name);
        found.map(|(_, program)| program).with_context(|| format!("no program {name:?} on the stage"))
    }

    /// Takes a program off the stage: what is left of it is killed.
    pub fn drop_program(&mut self, name: &str) {
        self.programs.retain(|(known, _)| known != name);
    }

    /// Waits until something listens at `address`, on the upstream's or the gateway's side.
    ///
    /// # Errors
    /// When nothing does within 20 s.
    pub fn wait_for_listener(&self, address: SocketAddr) -> Result<()> {
        let listening = || {
            let filter = format!("sport = :{}", address.port());
            [self.net.upstream(), self.net.gateway()].into_iter().find_map(|namespace| {
                let mut ss = namespace.command("ss").ok()?;
                let output = ss.args(["-Htln", &filter]).output().ok()?;
                (!output.stdout.is_empty()).then_some(())
            })
        };
        poll(&format!("a listener at {address}"), Duration::from_secs(20), listening)
            .with_context(|| self.all_said())
    }

    /// Starts nginx as the gateway, proxying everything to the upstream.
    ///
    /// # Errors
    /// When nginx refuses.
    pub fn start_nginx(&mut self, options: &GatewayOptions) -> Result<()> {
        let fence = self.net.free_upstream();
        self.nginx = Some(Nginx::start_at(self.net.gateway(), self.gateway, self.upstream, fence, options)?);
        Ok(())
    }

    /// Starts nginx as the gateway with the content of an `http` block of the case's own (`listen` has to be
    /// [`Stage::gateway`]).
    ///
    /// # Errors
    /// When nginx refuses.
    pub fn start_nginx_with(&mut self, http: &str) -> Result<()> {
        self.nginx = Some(Nginx::start_with(self.net.gateway(), self.gateway, http)?);
        Ok(())
    }

    /// The nginx that is the gateway.
    ///
    /// # Errors
    /// When there is none.
    pub fn nginx(&self) -> Result<&Nginx> {
        self.nginx.as_ref().context("this case has no nginx")
    }

    /// Starts HAProxy as the gateway, master and worker, with this configuration; it has to log to `stdout`. Its log
    /// is the gateway's.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn start_haproxy(&mut self, configuration: &str) -> Result<()> {
        let file = self.write("haproxy.cfg", configuration)?;
        let mut command = self.net.gateway().command("haproxy")?;
        command.arg("-W").arg("-db").arg("-f").arg(file);
        self.start_program("haproxy", command)?;
        self.logs.push(self.folder.path().join("haproxy.log"));
        self.wait_for_listener(self.gateway)
    }

    /// Makes what a program says part of the gateway's log.
    pub fn gateway_logs_to(&mut self, name: &str) {
        self.logs.push(self.folder.path().join(format!("{name}.log")));
    }

    /// Sends a request through the gateway, with further arguments for curl, and does not wait for its end.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn start_request(&self, path: &str, arguments: &[&str]) -> Result<Request> {
        let url = format!("http://{}{path}", self.gateway);
        let mut all = arguments.to_vec();
        all.push(&url);
        Request::start(self.net.gateway(), &all)
    }

    /// Sends a request through the gateway and waits for its end.
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub fn request(&self, path: &str, arguments: &[&str]) -> Result<Outcome> {
        self.start_request(path, arguments)?.finish(Duration::from_secs(30))
    }

    /// Sends a request and demands this status of the gateway.
    ///
    /// # Errors
    /// When it is another.
    pub fn demand(&self, path: &str, status: u16) -> Result<()> {
        let outcome = self.request(path, &[])?;
        ensure!(outcome.status == status, "{path} ended with {outcome:?}, not {status}\n{}", self.all_said());
        Ok(())
    }

    /// Runs a command to its end in the upstream's namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_in_upstream(&self, words: &[&str]) -> Result<()> {
        run_in(self.net.upstream(), words)
    }

    /// Runs a command to its end in the gateway's namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_in_gateway(&self, words: &[&str]) -> Result<()> {
        run_in(self.net.gateway(), words)
    }

    /// Runs a command to its end in the router's namespace (`Link::Routed`).
    ///
    /// # Errors
    /// When it fails.
    pub fn run_in_router(&self, words: &[&str]) -> Result<()> {
        run_in(self.net.router().context("this case has no router")?, words)
    }

    /// Has a shell send a signal: neither the process itself nor its parent.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal_by_a_shell(&self, signal: &str, pid: u32) -> Result<()> {
        // `kill` is built into the shell, so the shell itself is the sender.
        run(Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"; exit $?", "sh", signal, &pid.to_string()]))
    }

    /// Waits until no connection to the upstream is established at the gateway any more.
    ///
    /// # Errors
    /// When there still is one after 20 s.
    pub fn wait_for_the_end(&self) -> Result<()> {
        self.wait_for_connections(0)
    }

    /// Waits until so many connections to the upstream are established at the gateway.
    ///
    /// # Errors
    /// When there are not after 20 s.
    pub fn wait_for_connections(&self, count: usize) -> Result<()> {
        let upstream = self.upstream.to_string();
        poll(&format!("{count} connections to {upstream}"), Duration::from_secs(20), || {
            let mut ss = self.net.gateway().command("ss").ok()?;
            let output = ss.args(["-Htn", "state", "established", "dst", &upstream]).output().ok()?;
            let lines = String::from_utf8_lossy(&output.stdout).lines().count();
            (output.status.success() && lines == count).then_some(())
        })
    }

    /// Waits until nothing has moved for 100 ms on any connection from the gateway to the upstream, and gives how many
    /// there are then.
    ///
    /// # Errors
    /// When something still moves after 20 s.
    pub fn wait_for_quiet(&self) -> Result<usize> {
        let upstream = self.upstream.to_string();
        poll(&format!("the connections to {upstream} to be quiet"), Duration::from_secs(20), || {
            let mut ss = self.net.gateway().command("ss").ok()?;
            let output = ss.args(["-HtinO", "state", "established", "dst", &upstream]).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let quiet = text.lines().all(|line| age(line, "lastsnd:") >= 100 && age(line, "lastrcv:") >= 100);
            (output.status.success() && quiet).then(|| text.lines().count())
        })
    }

    /// Waits until a connection on the upstream's side holds data that nobody has read.
    ///
    /// # Errors
    /// When none does after 20 s.
    pub fn wait_for_unread(&self) -> Result<()> {
        let port = format!("sport = :{}", self.upstream.port());
        self.wait_for_queue(self.net.upstream(), &port, "unread data", |waiting, _| waiting > 0)
    }

    /// Waits until the upstream's host has acknowledged all that the gateway has sent.
    ///
    /// # Errors
    /// When it has not after 20 s.
    pub fn wait_for_acknowledgement(&self) -> Result<()> {
        let upstream = format!("dport = :{}", self.upstream.port());
        self.wait_for_queue(self.net.gateway(), &upstream, "an acknowledgement", |_, unacked| unacked == 0)
    }

    /// The first two numbers of `ss`: bytes to be read, bytes to be acknowledged.
    fn wait_for_queue(
        &self,
        namespace: &Namespace,
        filter: &str,
        what: &str,
        wanted: impl Fn(u64, u64) -> bool,
    ) -> Result<()> {
        poll(&format!("{what} ({filter})"), Duration::from_secs(20), || {
            let mut ss = namespace.command("ss").ok()?;
            let output = ss.args(["-Htn", "state", "established", filter]).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut lines = text.lines().map(|line| {
                let mut words = line.split_whitespace().map(str::parse::<u64>);
                Some((words.next()?.ok()?, words.next()?.ok()?))
            });
            lines
                .any(|queues| queues.is_some_and(|(waiting, unacked)| wanted(waiting, unacked)))
                .then_some(())
        })
    }

    /// What the gateway logged until now.
    pub fn gateway_log(&self) -> String {
        let mut text = self.nginx.as_ref().map_or_else(String::new, |n| n.error_log() + &n.access_log());
        for log in &self.logs {
            text.push_str(&fs::read_to_string(log).unwrap_or_default());
        }
        text
    }

    /// All that the programs on the stage have said.
    pub fn all_said(&self) -> String {
        let mut text = format!("--- the gateway's log\n{}", self.gateway_log());
        for (name, program) in &self.programs {
            text.push_str(&format!("--- {name}\n{}", program.said()));
        }
        text
    }

    /// Connects to where nobody listens, on the upstream's side: an event that is known to be reported. Gives the
    /// address.
    pub(super) fn fence(&self) -> Result<SocketAddr> {
        let fence = match self.net.link {
            Link::Loopback => SocketAddr::new(self.net.gateway_ip(), unique_port()),
            // Of the gateway's own namespace: a packet filter of the case may be in the way of all others.
            _ => SocketAddr::new(IpAddr::from([127, 0, 0, 1]), unique_port()),
        };
        match self.net.gateway().enter(|| TcpStream::connect(fence))? {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(fence),
            other => bail!("the fence {fence} did not refuse: {other:?}"),
        }
    }
}

/// Milliseconds since what `name` says of a line of `ss -i`, which leaves out an age of 0.
fn age(line: &str, name: &str) -> u64 {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
    word.and_then(|age| age.parse().ok()).unwrap_or(0)
}

fn run_in(namespace: &Namespace, words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no command")?;
    run(namespace.command(program)?.args(arguments))
}
