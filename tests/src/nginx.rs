//! The gateway: a real nginx with a configuration of its own in a temporary folder, one master and
//! one worker. It proxies everything to the upstream under test, `/fence` to where nobody listens.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
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
}

impl Default for GatewayOptions {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { keepalive: false, tls: false, read_timeout: minute, connect_timeout: minute }
    }
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Guarded,
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
        Self::launch(namespace, address, &configuration(address, upstream, fence, options))
    }

    /// Starts nginx with this content of its `http` block, which has to listen at `address`.
    ///
    /// # Errors
    /// When nginx is missing or refuses its configuration.
    pub fn start_with(namespace: &Namespace, address: SocketAddr, http: &str) -> Result<Self> {
        Self::launch(namespace, address, &format!("{PREAMBLE}{http}\n}}\n"))
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
        Self::launch(namespace, address, &format!("{PREAMBLE}{server}\n}}\n"))
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
        self.process.signal(libc::SIGHUP);
    }

    fn launch(namespace: &Namespace, address: SocketAddr, configuration: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rstrace-nginx-").tempdir()?;
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = namespace.command("nginx")?;
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(folder.path().join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        let stderr = Gathered::of(process.child().stderr.take().context("nginx's stderr is piped")?);
        let mut nginx = Self { process, folder, stderr, address, workers: Vec::new() };
        // The pid file is written once the sockets listen, so no connection is needed to find out.
        let pid_file = nginx.folder.path().join("nginx.pid");
        nginx.workers = poll("nginx to have a worker", Duration::from_secs(5), || {
            let workers = children_of(nginx.process.pid());
            (pid_file.exists() && !workers.is_empty()).then_some(workers)
        })
        .with_context(|| format!("nginx: {}{}", nginx.stderr.text(), nginx.error_log()))?;
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
        self.process.pid()
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
        // TERM lets the master take its worker along, which KILL would leave behind.
        self.process.signal(libc::SIGTERM);
        if self.process.wait(Duration::from_secs(3)).is_err() {
            for worker in &self.workers {
                // SAFETY: kill(2) touches no memory; the unreaped master keeps its children's pids ours.
                unsafe { libc::kill(worker.cast_signed(), libc::SIGKILL) };
            }
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
daemon off;
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
