//! The gateway: a real nginx with a configuration of its own in a temporary folder, one master and
//! one worker. It proxies everything to the upstream under test, `/fence` to where nobody listens.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::netns::{Namespace, unique_port};
use crate::process::{Gathered, Guarded, poll, run};

/// What a test may want different from nginx's defaults.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Keep idle upstream connections and speak HTTP/1.1 to the upstream.
    pub keepalive: bool,
    /// Speak TLS to the upstream.
    pub tls: bool,
    pub read_timeout: Duration,
    pub connect_timeout: Duration,
    /// Become a daemon, as distributions start it: the process that listens first ends, and its child goes on.
    pub daemon: bool,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { keepalive: false, tls: false, read_timeout: minute, connect_timeout: minute, daemon: false }
    }
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    master: u32,
    /// None: a daemon, which is nobody's child.
    process: Option<Guarded>,
    folder: TempDir,
    stderr: Gathered,
    address: SocketAddr,
    workers: Vec<u32>,
}

impl Nginx {
    /// Starts nginx in `namespace` and returns once its worker runs.
    ///
    /// # Errors
    /// When nginx is missing or refuses its configuration.
    pub fn start(
        namespace: &Namespace,
        ip: std::net::IpAddr,
        upstream: SocketAddr,
        fence: SocketAddr,
        options: &GatewayOptions,
    ) -> Result<Self> {
        Self::start_at(namespace, SocketAddr::new(ip, unique_port()), upstream, fence, options)
    }

    /// The same, accepting at this address.
    ///
    /// # Errors
    /// When nginx is missing or refuses its configuration.
    pub fn start_at(
        namespace: &Namespace,
        address: SocketAddr,
        upstream: SocketAddr,
        fence: SocketAddr,
        options: &GatewayOptions,
    ) -> Result<Self> {
        Self::launch(namespace, address, &configuration(address, upstream, fence, options), options.daemon)
    }

    /// Starts nginx with this content of its `http` block, which has to listen at `address`.
    ///
    /// # Errors
    /// When nginx is missing or refuses its configuration.
    pub fn start_with(namespace: &Namespace, address: SocketAddr, http: &str) -> Result<Self> {
        Self::launch(namespace, address, &format!("{PREAMBLE}{http}\n}}\n"), false)
    }

    /// Starts nginx as an upstream that answers over TLS.
    ///
    /// # Errors
    /// When nginx is missing or no certificate can be made.
    pub fn serve_tls(namespace: &Namespace, address: SocketAddr, certificate: &Certificate) -> Result<Self> {
        let folder = certificate.folder.path().display();
        let server = format!(
            "server {{ listen {address} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;\n\
             ssl_protocols TLSv1.2 TLSv1.3; keepalive_timeout 1s; location / {{ return 200 hello; }} }}"
        );
        Self::launch(namespace, address, &format!("{PREAMBLE}{server}\n}}\n"), false)
    }

    /// Writes this content of its `http` block in place of the other; nginx reads it when it is told to.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite(&self, http: &str) -> Result<()> {
        let (file, new) = (self.folder.path().join("nginx.conf"), self.folder.path().join("nginx.conf.new"));
        fs::write(&new, format!("{PREAMBLE}{http}\n}}\n"))?;
        Ok(fs::rename(new, file)?)
    }

    /// Lets nginx read its configuration again.
    pub fn reload(&self) {
        self.signal(libc::SIGHUP);
    }

    fn launch(namespace: &Namespace, address: SocketAddr, configuration: &str, daemon: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-nginx-").tempdir()?;
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = namespace.command("nginx")?;
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        command.arg("-e").arg(folder.path().join("error.log"));
        command.args(["-g", if daemon { "daemon on;" } else { "daemon off;" }]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        let stderr = Gathered::of(process.child().stderr.take().context("nginx's stderr is piped")?);
        // The pid file is written once the sockets listen, so no connection is needed to find out.
        let pid_file = folder.path().join("nginx.pid");
        let mut nginx =
            Self { master: 0, process: Some(process), folder, stderr, address, workers: Vec::new() };
        (nginx.master, nginx.workers) = poll("nginx to have a worker", Duration::from_secs(20), || {
            let master = fs::read_to_string(&pid_file).ok()?.trim().parse().ok()?;
            Some((master, children_of(master))).filter(|(_, workers)| !workers.is_empty())
        })
        .with_context(|| format!("nginx: {}{}", nginx.stderr.text(), nginx.error_log()))?;
        if daemon && let Some(mut starter) = nginx.process.take() {
            let status = starter.wait(Duration::from_secs(20))?;
            ensure!(status.success(), "nginx: {status}: {}", nginx.stderr.text());
        }
        Ok(nginx)
    }

    /// Where clients reach the gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address on which nginx accepts.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The master.
    pub fn pid(&self) -> u32 {
        self.master
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) touches no memory. The master is this process's child, or a daemon that nobody else ends.
        unsafe { libc::kill(self.master.cast_signed(), signal) };
    }

    /// Waits for the master's end.
    fn ended(&mut self, limit: Duration) -> bool {
        match &mut self.process {
            Some(process) => process.wait(limit).is_ok(),
            None => {
                let folder = Path::new("/proc").join(self.master.to_string());
                poll("the end of nginx", limit, || (!folder.exists()).then_some(())).is_ok()
            }
        }
    }

    /// The processes that may own an upstream connection.
    pub fn worker_pids(&self) -> &[u32] {
        &self.workers
    }

    /// All that nginx logged until now, at level `info`.
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// One line a request: the status, and how the upstream's attempts went.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.master == 0 {
            return;
        }
        // TERM lets the master take its worker along, which KILL would leave behind.
        self.signal(libc::SIGTERM);
        if self.ended(Duration::from_secs(3)) {
            return;
        }
        self.signal(libc::SIGKILL);
        for worker in &self.workers {
            // SAFETY: kill(2) touches no memory; the master has not ended, so its children's pids are theirs.
            unsafe { libc::kill(worker.cast_signed(), libc::SIGKILL) };
        }
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// A certificate of its own making, and its key.
#[derive(Debug)]
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// Makes the pair `cert.pem` and `key.pem`.
    ///
    /// # Errors
    /// When openssl is missing.
    pub fn create() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-tls-").tempdir()?;
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-subj", "/CN=upstream", "-keyout", "key.pem", "-out", "cert.pem"]);
        run(openssl.current_dir(folder.path())).context("make a certificate")?;
        Ok(Self { folder })
    }

    /// Where `cert.pem` and `key.pem` are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// All that both roles of nginx share, up to the `http` block's content.
const PREAMBLE: &str = r#"user root;
worker_processes 1;
pid nginx.pid;
error_log error.log info;
events { worker_connections 512; }
http {
  log_format attempts '$status "$upstream_status" $upstream_addr $request_time $request';
  access_log access.log attempts;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000;
"#;

fn configuration(
    address: SocketAddr,
    upstream: SocketAddr,
    fence: SocketAddr,
    options: &GatewayOptions,
) -> String {
    let GatewayOptions { keepalive, tls, .. } = options;
    let [read_timeout, connect_timeout] =
        [options.read_timeout, options.connect_timeout].map(|timeout| timeout.as_millis());
    let scheme = if *tls { "https" } else { "http" };
    let (pool, protocol) = if *keepalive {
        ("keepalive 4;", "proxy_http_version 1.1; proxy_set_header Connection \"\";")
    } else {
        ("", "")
    };
    format!(
        r#"{PREAMBLE}
  upstream tested {{ server {upstream} max_fails=0; {pool} }}
  server {{
    listen {address};
    proxy_next_upstream off;
    proxy_read_timeout {read_timeout}ms;
    proxy_connect_timeout {connect_timeout}ms;
    location / {{ proxy_pass {scheme}://tested; {protocol} }}
    location = /fence {{ proxy_pass http://{fence}; }}
  }}
}}
"#
    )
}
