//! HAProxy: the servers of its `backend` and `listen` sections.
//!
//! A tolerant reader of its own: words and lines, as chapter 2.2 of the configuration manual has them, and what it
//! does not know is passed over.

use super::registration::{Address, Proxy, Registration, Server, State};

/// Servers that one `server-template` makes.
const TEMPLATE: u32 = 1000;

/// What begins a section; all else belongs to the one that is open.
const SECTIONS: [&str; 16] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "resolvers",
    "peers",
    "mailers",
    "userlist",
    "program",
    "cache",
    "http-errors",
    "ring",
    "log-forward",
    "fcgi-app",
    "crt-store",
];

/// Reads the text of `file`.
#[must_use]
pub fn parse(text: &str, file: &str) -> Vec<Server> {
    let mut servers = Vec::new();
    let mut backend = None;
    for (line, text) in (1..).zip(text.lines()) {
        let words = words(text);
        let Some((keyword, words)) = words.split_first() else { continue };
        if SECTIONS.contains(&keyword.as_str()) {
            let name = words.first().filter(|_| matches!(keyword.as_str(), "backend" | "listen"));
            backend = name.cloned();
            continue;
        }
        let Some(backend) = &backend else { continue };
        match (keyword.as_str(), words) {
            ("server", [name, address, options @ ..]) => {
                servers.extend(server(backend, name, address, options, file, line));
            }
            ("server-template", [prefix, count, address, options @ ..]) => {
                for number in numbers(count) {
                    let name = format!("{prefix}{number}");
                    servers.extend(server(backend, &name, address, options, file, line));
                }
            }
            _ => {}
        }
    }
    servers
}

fn server(
    backend: &str,
    name: &str,
    address: &str,
    options: &[String],
    file: &str,
    line: u32,
) -> Option<Server> {
    let mut weight = None;
    let mut state = State::Active;
    let mut options = options.iter().map(String::as_str);
    while let Some(option) = options.next() {
        match option {
            "weight" => weight = options.next().and_then(|number| number.parse().ok()),
            "backup" if state == State::Active => state = State::Backup,
            "disabled" => state = State::Disabled,
            "enabled" if state == State::Disabled => state = State::Active,
            _ => {}
        }
    }
    let registration = Registration {
        gateway: Proxy::Haproxy,
        name: Some(format!("{backend}/{name}")),
        weight,
        state,
        file: file.to_owned(),
        line: Some(line),
    };
    Some(Server { address: address_of(address)?, registration })
}

/// `ipv4@10.0.3.7:80`, `unix@/run/a.sock`, `/run/a.sock`, `abns@name`, `10.0.3.7:80`. A port that is not said, or is
/// relative to the client's (`+8000`), is not known; neither is what comes from the environment.
fn address_of(text: &str) -> Option<Address> {
    match text.split_once('@') {
        Some(("unix", path)) => Some(Address::Unix(path.to_owned())),
        Some(("abns", name)) => Some(Address::Unix(format!("@{name}"))),
        Some(("ipv4" | "ipv6" | "tcp" | "tcp4" | "tcp6", address)) => Address::parse(address, None),
        Some(_) => None,
        None if text.starts_with('/') => Some(Address::Unix(text.to_owned())),
        // `::1:80` is the port 80 of ::1 here: the last colon always stands before a port.
        None => match text.rsplit_once(':') {
            Some((ip, port)) if ip.contains(':') && !ip.starts_with('[') => {
                Address::parse(&format!("[{ip}]:{port}"), None)
            }
            _ => Address::parse(text, None),
        },
    }
}

/// `3` or `1-3`: the numbers of the servers of a template.
fn numbers(text: &str) -> std::ops::RangeInclusive<u32> {
    let (first, last) = text.split_once('-').unwrap_or(("1", text));
    let (first, last): (u32, u32) = (first.parse().unwrap_or(1), last.parse().unwrap_or(0));
    first..=last.min(first.saturating_add(TEMPLATE - 1))
}

/// The words of a line: blanks part them, `#` ends them, quotes and a backslash keep what is special.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('#', None) => break,
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
global
    log /dev/log local0
    chroot /var/lib/haproxy
defaults
    mode http
    default-server inter 3s   # of all servers
    errorfile 503 /etc/haproxy/errors/503.http
frontend web
    bind *:80
    server nonsense 10.9.9.9:80
backend api
    balance roundrobin
    server web-1 10.0.3.7:9000 check weight 5
    server web-2 10.0.3.8:9000 check backup   # the spare one
    server "web 3" ipv4@10.0.3.9:9000 disabled weight 0
    server local unix@/run/app.sock
    server plain /run/plain.sock send-proxy-v2
    server v6 2001:db8::7:9000
    server v6b [2001:db8::8]:9000
    server named web.example:80 resolvers dns
    server relative 10.0.3.7
    server environment "${HOST}":80
    server
listen stats
    bind 127.0.0.1:9
    server-template pod 2-3 10.0.4.1:80 check
"#;

    fn found(text: &str) -> Vec<(String, String, Option<u32>, State, u32)> {
        let servers = parse(text, "/etc/haproxy/haproxy.cfg").into_iter();
        let told = servers.map(|Server { address, registration: r }| {
            let address = address.targets()[0].to_string();
            (r.name.unwrap_or_default(), address, r.weight, r.state, r.line.unwrap_or_default())
        });
        told.collect()
    }

    #[test]
    fn servers_have_their_backend_weight_and_state() {
        let expected = [
            ("api/web-1", "10.0.3.7:9000", Some(5), State::Active, 14),
            ("api/web-2", "10.0.3.8:9000", None, State::Backup, 15),
            ("api/web 3", "10.0.3.9:9000", Some(0), State::Disabled, 16),
            ("api/local", "unix:/run/app.sock", None, State::Active, 17),
            ("api/plain", "unix:/run/plain.sock", None, State::Active, 18),
            ("api/v6", "[2001:db8::7]:9000", None, State::Active, 19),
            ("api/v6b", "[2001:db8::8]:9000", None, State::Active, 20),
            ("api/named", "dns:web.example", None, State::Active, 21),
            ("stats/pod2", "10.0.4.1:80", None, State::Active, 27),
            ("stats/pod3", "10.0.4.1:80", None, State::Active, 27),
        ];
        let expected = expected.map(|(n, a, w, s, l)| (n.to_owned(), a.to_owned(), w, s, l));
        assert_eq!(found(CONFIGURATION), expected);
    }

    #[test]
    fn a_template_is_bounded() {
        let many =
            found("backend b\nserver-template s 4000000000 10.0.0.1:80\nserver-template t x-y 10.0.0.1:80\n");
        assert_eq!(many.len(), TEMPLATE as usize);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "(backend b\n)?(server [^\n]*\n|\\PC*\n)*") {
            let _ = parse(&text, "f");
        }
    }
}
