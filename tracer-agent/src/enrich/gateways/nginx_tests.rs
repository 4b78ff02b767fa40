use proptest::prelude::*;

use super::*;

/// Address, name, weight, state, line.
type Told = (String, Option<String>, Option<u32>, State, u32);

fn told(text: &str) -> Vec<Told> {
    let (parsed, fault) = parse(text, "/etc/nginx/nginx.conf", None);
    assert_eq!(fault, None);
    let told = parsed.servers.into_iter().map(|Server { address, registration: r }| {
        (address.targets()[0].to_string(), r.name, r.weight, r.state, r.line.unwrap_or_default())
    });
    told.collect()
}

/// The address, the name, and the state of each.
fn names(text: &str) -> Vec<(String, Option<String>)> {
    told(text).into_iter().map(|(address, name, ..)| (address, name)).collect()
}

fn expected(list: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    list.iter().map(|(address, name)| ((*address).to_owned(), name.map(str::to_owned))).collect()
}

#[test]
fn an_upstream_block_gives_its_name_weights_and_states() {
    let text = r#"
http {
    upstream api {
        zone api 64k;       # a zone line
        least_conn;
        server 10.0.3.7:9000 weight=5 max_fails=0 fail_timeout=10s;
        server 10.0.3.8 backup weight=2;
        server [2001:db8::7]:80 down; # gone
        server unix:/run/app.sock max_conns=3;
        server web-1.example:8080 resolve;
        server localhost:81;
        keepalive 32;
    }
}
"#;
    let api = || Some("api".to_owned());
    let expected = [
        ("10.0.3.7:9000", Some(5), State::Active, 6),
        ("10.0.3.8:80", Some(2), State::Backup, 7),
        ("[2001:db8::7]:80", None, State::Down, 8),
        ("unix:/run/app.sock", None, State::Active, 9),
        ("dns:web-1.example", None, State::Active, 10),
        ("127.0.0.1:81", None, State::Active, 11),
    ];
    assert_eq!(told(text), expected.map(|(address, w, s, l)| (address.to_owned(), api(), w, s, l)));
}

#[test]
fn what_is_passed_on_directly_has_an_address_and_no_name() {
    let text = r#"
http { server {
    listen 80 default_server;
    server_name example.com;
    set $to 10.9.9.9:1;
    location /a { proxy_pass http://10.0.3.7:9000/path?x; }
    location /b { proxy_pass https://10.0.3.8; }
    location /c { proxy_pass http://unix:/run/app.sock:/uri/; }
    location /d { proxy_pass http://$to; }
    location /e { proxy_pass http://10.0.3.9:$server_port/; }
    location /f { proxy_pass "http://${host}:80"; }
    location ~ \.php$ { fastcgi_pass unix:/run/php/php8.2-fpm.sock; }
    location /g { grpc_pass grpc://127.0.0.1:50051; }
    location /h { uwsgi_pass 127.0.0.1:3031; }
    location /i { fastcgi_pass php; }
    if ($request_method = POST) { proxy_pass http://[::1]:8080; }
} }
stream { server { listen 53 udp; proxy_pass 10.0.3.10:53; } }
"#;
    let list = [
        ("10.0.3.7:9000", None),
        ("10.0.3.8:443", None),
        ("unix:/run/app.sock", None),
        ("unix:/run/php/php8.2-fpm.sock", None),
        ("127.0.0.1:50051", None),
        ("127.0.0.1:3031", None),
        ("[::1]:8080", None),
        ("10.0.3.10:53", None),
    ];
    assert_eq!(names(text), expected(&list));
}

#[test]
fn lua_maps_and_quotes_do_not_hide_what_follows() {
    let text = r#"
map $http_upgrade $connection_upgrade { default upgrade; '' close; }
log_format main '$remote_addr - "$request" {';
server {
    location ~ "^/x{2,3}$" {
        content_by_lua_block {
            -- don't be fooled by "this
            local s = "}" .. '{'
            ngx.say(s)
        }
    }
    location / { proxy_pass http://10.0.3.7:9000; }
}
"#;
    assert_eq!(names(text), expected(&[("10.0.3.7:9000", None)]));
}

#[test]
fn includes_are_named_with_the_block_around_them() {
    let text =
        "include modules-enabled/*.conf;\nhttp { upstream api { include /etc/servers; } include a.conf; }\n";
    let (parsed, _) = parse(text, "f", None);
    let include = |pattern: &str, within: Option<&str>| Include {
        pattern: pattern.to_owned(),
        within: within.map(str::to_owned),
    };
    let wanted = [
        include("modules-enabled/*.conf", None),
        include("/etc/servers", Some("api")),
        include("a.conf", None),
    ];
    assert_eq!(parsed.includes, wanted);
    let (parsed, _) = parse("server 10.0.0.1:80;", "/etc/servers", Some("api"));
    assert_eq!(parsed.servers[0].registration.name.as_deref(), Some("api"));
    assert_eq!(parse("server 10.0.0.1:80;", "f", None).0.servers, []);
}

#[test]
fn what_is_broken_is_said_with_its_line_and_the_rest_is_read() {
    let (parsed, fault) = parse("upstream a {\n server 10.0.0.1:80;\n}\nserver {\n", "f", None);
    assert_eq!(parsed.servers.len(), 1);
    let fault = fault.unwrap();
    assert!(fault.line >= 4, "{fault:?}");
    let (_, fault) = parse(&"a {\n".repeat(100_000), "f", None);
    assert_eq!(fault.map(|fault| fault.why).as_deref(), Some("blocks are more than 64 deep"));
}

#[test]
fn the_configuration_of_debian_is_understood() {
    let text = include_str!("debian-nginx.conf");
    let (parsed, fault) = parse(text, "/etc/nginx/nginx.conf", None);
    assert_eq!(fault, None);
    let patterns: Vec<_> = parsed.includes.iter().map(|include| include.pattern.as_str()).collect();
    let all = ["/etc/nginx/modules-enabled/*.conf", "/etc/nginx/mime.types", "/etc/nginx/conf.d/*.conf"];
    assert_eq!(patterns, [&all[..], &["/etc/nginx/sites-enabled/*"]].concat());
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes), "f", None);
    }

    #[test]
    fn any_words_are_taken(text in "(upstream|server|include|proxy_pass|x_by_lua_block|\\$a|[ {};\"'#\n\\\\$:/]|unix:|10.0.0.1)*") {
        let (parsed, _) = parse(&text, "f", Some("u"));
        prop_assert!(parsed.servers.iter().all(|server| server.registration.line > Some(0)));
    }
}
