//! From a gateway's command line to its servers: which files it has, and what stands in them.

use std::collections::HashMap;
use std::io;

use super::files::{Files, Root, Stamps};
use super::registration::{Address, Server};
use super::{Fault, haproxy, nginx};

/// Files that include each other.
const DEPTH: usize = 16;
/// Servers of one gateway.
const SERVERS: usize = 20_000;
/// Faults that are told; further ones are like them.
const FAULTS: usize = 20;

/// Where nginx looks without being told: as Debian, its own packages, the source and OpenResty build it.
const NGINX_FILES: [&str; 3] = [
    "/etc/nginx/nginx.conf",
    "/usr/local/nginx/conf/nginx.conf",
    "/usr/local/openresty/nginx/conf/nginx.conf",
];

/// What a gateway is configured to do.
#[derive(Debug, Default)]
pub struct Configuration {
    pub servers: Vec<Server>,
    /// What was read.
    pub files: Vec<String>,
    /// What could not be read or understood, one line each.
    pub faults: Vec<String>,
    /// What a bound left out: servers, files, names in folders.
    pub left_out: u64,
    pub stamps: Stamps,
    /// What each file of nginx said when it was last understood, by its path and the `upstream` block around it.
    pub understood: Understood,
}

type Understood = HashMap<(String, Option<String>), nginx::Parsed>;

/// The configuration of an nginx that was started with these words in this folder. A file that is broken says what it
/// said before, if it was `understood` then.
#[must_use]
pub fn of_nginx(root: &Root, command: &[String], folder: &str, understood: &Understood) -> Configuration {
    let mut reading = Reading::new(root);
    let main = nginx_main(root, command, folder);
    let home = main.rsplit_once('/').map_or("", |(home, _)| home);
    let mut walk = Walk { home, understood, upstreams: Vec::new() };
    reading.nginx(&main, None, &mut walk, 0);
    let upstreams = walk.upstreams;
    let mut configuration = reading.finish();
    let is_upstream = |address: &Address| matches!(address, Address::Host(name) if upstreams.iter().any(|upstream| upstream.eq_ignore_ascii_case(name)));
    // `proxy_pass http://api` where `api` is an upstream block.
    configuration.servers.retain(|s| s.registration.name.is_some() || !is_upstream(&s.address));
    configuration
}

/// The configuration of an HAProxy that was started with these words in this folder.
#[must_use]
pub fn of_haproxy(root: &Root, command: &[String], folder: &str) -> Configuration {
    let mut reading = Reading::new(root);
    for path in haproxy_files(command, folder) {
        let paths = if root.is_folder(&path) {
            let names = reading.files.names(&path);
            let names = names.iter().filter(|name| name.ends_with(".cfg") && !name.starts_with('.'));
            names.map(|name| format!("{path}/{name}")).collect()
        } else {
            vec![path]
        };
        for path in paths {
            let Some(text) = reading.text(&path) else { continue };
            reading.add(haproxy::parse(&text, &path));
        }
    }
    reading.finish()
}

/// Reads the file with which an Envoy was started.
#[must_use]
pub fn of_envoy(root: &Root, command: &[String], folder: &str) -> (Configuration, Option<String>) {
    let mut reading = Reading::new(root);
    let path = option(command, &["-c", "--config-path"]).map(|path| absolute(path, folder));
    let text = path.and_then(|path| reading.text(&path));
    (reading.finish(), text)
}

/// What goes along from file to file of nginx.
struct Walk<'a> {
    home: &'a str,
    understood: &'a Understood,
    /// Names of `upstream` blocks.
    upstreams: Vec<String>,
}

struct Reading<'a> {
    files: Files<'a>,
    result: Configuration,
}

impl<'a> Reading<'a> {
    fn new(root: &'a Root) -> Self {
        Self { files: Files::new(root), result: Configuration::default() }
    }

    fn text(&mut self, path: &str) -> Option<String> {
        self.files.text(path).inspect_err(|error| self.result.fault(format!("{path}: {}", why(error)))).ok()
    }

    fn add(&mut self, mut servers: Vec<Server>) {
        let room = SERVERS - self.result.servers.len();
        self.result.left_out += servers.len().saturating_sub(room) as u64;
        servers.truncate(room);
        self.result.servers.append(&mut servers);
    }

    fn nginx(&mut self, path: &str, within: Option<&str>, walk: &mut Walk<'_>, depth: usize) {
        let Some(text) = self.text(path) else { return };
        let (mut parsed, fault) = nginx::parse(&text, path, within);
        let key = (path.to_owned(), within.map(str::to_owned));
        if let Some(Fault { line, why }) = &fault {
            self.result.fault(format!("{path}:{line}: {why}"));
            if let Some(good) = walk.understood.get(&key) {
                parsed = good.clone();
            }
        }
        if fault.is_none() || walk.understood.contains_key(&key) {
            self.result.understood.insert(key, parsed.clone());
        }
        self.add(parsed.servers);
        walk.upstreams.extend(parsed.upstreams);
        for include in parsed.includes {
            if depth >= DEPTH {
                self.result
                    .fault(format!("{path}: includes are more than {DEPTH} deep: {}", include.pattern));
                return;
            }
            for path in self.files.matching(&absolute(&include.pattern, walk.home)) {
                self.nginx(&path, include.within.as_deref(), walk, depth + 1);
            }
        }
    }

    fn finish(self) -> Configuration {
        let left_out = self.files.left_out();
        let (files, stamps) = self.files.finish();
        let mut result = Configuration { files, stamps, ..self.result };
        result.left_out += left_out;
        result
    }
}

impl Configuration {
    pub fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS {
            self.faults.push(fault);
        }
    }
}

/// The main file of nginx: `-c FILE`, relative to `-p PREFIX`.
fn nginx_main(root: &Root, command: &[String], folder: &str) -> String {
    let prefix = option(command, &["-p"]).map(|prefix| absolute(prefix, folder));
    let mut candidates = Vec::new();
    match option(command, &["-c"]) {
        Some(file) if file.starts_with('/') => return file.to_owned(),
        Some(file) => {
            let homes =
                ["/usr/share/nginx", "/etc/nginx", "/usr/local/nginx", "/usr/local/openresty/nginx", folder];
            let homes = prefix.iter().map(String::as_str).chain(homes);
            candidates.extend(homes.map(|home| absolute(file, home)));
        }
        None => {
            candidates.extend(prefix.map(|prefix| absolute("conf/nginx.conf", &prefix)));
            candidates.extend(NGINX_FILES.map(str::to_owned));
        }
    }
    let found = candidates.iter().find(|path| root.has(path)).or(candidates.first());
    found.cloned().unwrap_or_default()
}

/// `-f PATH` as often as it stands there, and all after `--`; relative to `-C FOLDER`.
fn haproxy_files(command: &[String], folder: &str) -> Vec<String> {
    let folder = option(command, &["-C"]).map_or_else(|| folder.to_owned(), |home| absolute(home, folder));
    let mut words = command.iter().skip(1);
    let mut paths = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" => paths.extend(words.next()),
            "--" => paths.extend(words.by_ref()),
            _ => {}
        }
    }
    paths.into_iter().map(|path| absolute(path, &folder)).collect()
}

/// The value of an option: the next word, or what is attached to it.
fn option<'a>(command: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut words = command.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        for name in names {
            let value = match word.strip_prefix(name) {
                Some("") => words.next(),
                Some(value) if name.len() > 2 => value.strip_prefix('='),
                value => value,
            };
            if value.is_some() {
                return value;
            }
        }
    }
    None
}

fn absolute(path: &str, folder: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", folder.trim_end_matches('/')) }
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "{error}: rstrace may read it with CAP_DAC_READ_SEARCH, or if it is readable by root's group"
            )
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
