//! nginx: the servers of `upstream` blocks, and the addresses to which requests are passed on directly.
//!
//! Takes one file apart; what it includes is named and read by the caller.

use nginx_lint_parser::ast::{Argument, Block, Directive};
use nginx_lint_parser::parse_string_with_errors;

use super::Fault;
use super::registration::{Address, Proxy, Registration, Server, State};

/// Blocks within blocks. nginx's own are some ten deep; the parser recurses, and a stack ends.
const DEPTH: usize = 64;

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub servers: Vec<Server>,
    /// Names of its `upstream` blocks: where such a name stands in place of an address, it is none.
    pub upstreams: Vec<String>,
    pub includes: Vec<Include>,
}

/// Files to be read in this place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// A path with wildcards, relative to the folder of the main file.
    pub pattern: String,
    /// The `upstream` block in which it stands.
    pub within: Option<String>,
}

/// Reads the text of `file`, which is included inside the `upstream` block `within`, if in any.
///
/// What could be read comes in either case, with the first error if there is one.
#[must_use]
pub fn parse(text: &str, file: &str, within: Option<&str>) -> (Parsed, Option<Fault>) {
    if let Some(line) = too_deep(text) {
        let why = format!("blocks are more than {DEPTH} deep");
        return (Parsed::default(), Some(Fault { line, why }));
    }
    let text = without_lua_comments(text);
    let (config, errors) = parse_string_with_errors(&text);
    let mut reader = Reader { file, parsed: Parsed::default() };
    for directive in config.directives() {
        reader.directive(directive, within);
    }
    let fault =
        errors.first().map(|error| Fault { line: line_of(&text, error.offset), why: error.message.clone() });
    (reader.parsed, fault)
}

struct Reader<'a> {
    file: &'a str,
    parsed: Parsed,
}

impl Reader<'_> {
    fn directive(&mut self, directive: &Directive, upstream: Option<&str>) {
        match (directive.name.as_str(), &directive.block) {
            ("include", None) => self.include(directive, upstream),
            ("server", None) => self.server(directive, upstream),
            ("upstream", Some(block)) => {
                let Some(name) = directive.args.first().map(Argument::as_str) else { return };
                self.parsed.upstreams.push(name.to_owned());
                self.block(block, Some(name));
            }
            (_, Some(block)) => self.block(block, None),
            (name, None) => {
                if let Some(port) = passes_on(name) {
                    self.pass(directive, port);
                }
            }
        }
    }

    fn block(&mut self, block: &Block, upstream: Option<&str>) {
        for directive in block.directives() {
            self.directive(directive, upstream);
        }
    }

    fn include(&mut self, directive: &Directive, upstream: Option<&str>) {
        if let [pattern] = &directive.args[..] {
            let within = upstream.map(str::to_owned);
            self.parsed.includes.push(Include { pattern: pattern.as_str().to_owned(), within });
        }
    }

    /// `server ADDRESS [weight=N] [backup] [down] …;` in an `upstream` block.
    fn server(&mut self, directive: &Directive, upstream: Option<&str>) {
        let (Some(upstream), Some((address, words))) = (upstream, directive.args.split_first()) else {
            return;
        };
        let Some(address) = address_of(address.as_str(), Some(80)) else { return };
        let mut weight = None;
        let mut state = State::Active;
        for word in words.iter().map(Argument::as_str) {
            match word {
                "down" => state = State::Down,
                "backup" if state == State::Active => state = State::Backup,
                _ => weight = word.strip_prefix("weight=").and_then(|n| n.parse().ok()).or(weight),
            }
        }
        self.add(directive, address, Some(upstream.to_owned()), weight, state);
    }

    /// `proxy_pass http://10.0.3.7:9000/path;` and its kin. What has a variable in it is known to nginx alone.
    fn pass(&mut self, directive: &Directive, port: Option<u16>) {
        let [argument] = &directive.args[..] else { return };
        let text = argument.as_str();
        if argument.is_variable() || text.contains('$') {
            return;
        }
        let (text, port) = match text.split_once("://") {
            Some(("https" | "grpcs", rest)) => (rest, Some(443)),
            Some(("http" | "grpc", rest)) => (rest, Some(80)),
            Some((_, rest)) => (rest, port),
            None => (text, port),
        };
        let authority = if text.starts_with("unix:") { text } else { text.split('/').next().unwrap_or(text) };
        if let Some(address) = address_of(authority, port) {
            self.add(directive, address, None, None, State::Active);
        }
    }

    fn add(
        &mut self,
        directive: &Directive,
        address: Address,
        name: Option<String>,
        weight: Option<u32>,
        state: State,
    ) {
        let line = u32::try_from(directive.span.start.line).ok();
        let registration =
            Registration { gateway: Proxy::Nginx, name, weight, state, file: self.file.to_owned(), line };
        self.parsed.servers.push(Server { address, registration });
    }
}

/// The port of an address without one, of a directive that passes requests on. None: it passes nothing on.
fn passes_on(directive: &str) -> Option<Option<u16>> {
    match directive {
        "grpc_pass" => Some(Some(80)),
        // In `stream` there is no usual port, and in `http` the scheme says it.
        "proxy_pass" | "fastcgi_pass" | "uwsgi_pass" | "scgi_pass" | "memcached_pass" => Some(None),
        _ => None,
    }
}

/// An address without a port may be the name of an `upstream` block; port 0 stands for none.
fn address_of(text: &str, port: Option<u16>) -> Option<Address> {
    match text.strip_prefix("unix:") {
        // `unix:/path:/uri` in proxy_pass.
        Some(path) => {
            path.split(':').next().filter(|path| !path.is_empty()).map(|path| Address::Unix(path.to_owned()))
        }
        None => Address::parse(text, port),
    }
}

/// The line where blocks become too deep. Braces in quotes count, and cancel out in what people write.
fn too_deep(text: &str) -> Option<u32> {
    let mut depth = 0usize;
    for (line, text) in (1..).zip(text.lines()) {
        for byte in text.bytes() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEPTH {
                return Some(line);
            }
        }
    }
    None
}

/// Comments of Lua that have a line of their own, emptied: the parser does not know them, and takes the quotes of
/// `-- don't` for a string. Nothing of nginx begins with two dashes. Lines keep their numbers.
fn without_lua_comments(text: &str) -> String {
    let is_comment =
        |line: &str| line.trim_start().starts_with("--") && !line.trim_start().starts_with("--[");
    let lines = text.split('\n').map(|line| if is_comment(line) { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

fn line_of(text: &str, offset: usize) -> u32 {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    u32::try_from(before.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
#[path = "nginx_tests.rs"]
mod tests;
