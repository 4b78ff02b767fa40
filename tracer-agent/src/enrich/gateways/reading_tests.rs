use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn command(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn names(configuration: &Configuration) -> Vec<String> {
    let told = configuration.servers.iter().map(|server| {
        let r = &server.registration;
        let name = r.name.as_deref().unwrap_or("-");
        format!("{} {name} {}:{}", server.address.targets()[0], r.file, r.line.unwrap_or_default())
    });
    told.collect()
}

/// As Debian has it: sites are links to files of the same root.
fn debian() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "etc/nginx/nginx.conf", include_str!("debian-nginx.conf"));
    write(root, "etc/nginx/mime.types", "types { text/html html; }\n");
    write(root, "etc/nginx/conf.d/api.conf", "upstream api {\n include servers/*;\n}\n");
    write(root, "etc/nginx/servers/one", "server 10.0.3.7:9000 weight=5;\n");
    write(
        root,
        "etc/nginx/sites-available/default",
        "server { location / { proxy_pass http://api; }\n location /x { proxy_pass http://10.0.3.9:1; }\n\
         location /y { proxy_pass http://web.example; } }\n",
    );
    fs::create_dir_all(root.join("etc/nginx/sites-enabled")).unwrap();
    symlink("/etc/nginx/sites-available/default", root.join("etc/nginx/sites-enabled/default")).unwrap();
    folder
}

#[test]
fn includes_are_followed_and_names_of_blocks_are_no_hosts() {
    let folder = debian();
    let root = Root::at(folder.path());
    let read = of_nginx(&root, &command("/usr/sbin/nginx -g daemon off;"), "/", &Understood::default());
    assert_eq!(read.faults, [""; 0]);
    assert_eq!(
        names(&read),
        [
            "10.0.3.7:9000 api /etc/nginx/servers/one:1",
            "10.0.3.9:1 - /etc/nginx/sites-enabled/default:2",
            "dns:web.example - /etc/nginx/sites-enabled/default:3"
        ]
    );
    assert_eq!(read.files.len(), 5, "{:?}", read.files);
}

#[test]
fn a_broken_file_says_what_it_said_before_and_the_others_go_on() {
    let folder = debian();
    let root = Root::at(folder.path());
    let command = command("nginx");
    let first = of_nginx(&root, &command, "/", &Understood::default());
    write(folder.path(), "etc/nginx/servers/one", "server 10.0.3.7:9000 weight=5\n");
    write(folder.path(), "etc/nginx/conf.d/more.conf", "upstream more { server 10.0.4.1:1; }\n");
    for _ in 0..2 {
        let broken = of_nginx(&root, &command, "/", &first.understood);
        assert_eq!(broken.faults.len(), 1, "{:?}", broken.faults);
        assert!(broken.faults[0].starts_with("/etc/nginx/servers/one:"), "{:?}", broken.faults);
        let names = names(&broken).join("\n");
        assert!(names.contains("10.0.3.7:9000 api") && names.contains("10.0.4.1:1 more"), "{names}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "etc/n.conf",
        "include missing.conf;\ninclude none/*.conf;\nstream { include n.conf; }\n",
    );
    let root = Root::at(folder.path());
    let read = of_nginx(&root, &command("nginx -c /etc/n.conf"), "/", &Understood::default());
    assert!(read.faults[0].starts_with("/etc/missing.conf: No such file"), "{:?}", read.faults);
    assert!(read.faults.iter().any(|fault| fault.contains("more than 16 deep")), "{:?}", read.faults);
}

#[test]
fn a_file_that_includes_itself_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "etc/nginx/nginx.conf", "include *.conf; include nginx.conf; include nginx.conf;\n");
    let root = Root::at(folder.path());
    let read = of_nginx(&root, &command("nginx"), "/", &Understood::default());
    assert_eq!((read.faults.len(), read.files.len()), (FAULTS, 1));
    assert!(read.left_out > 0);
}

#[test]
fn nginx_is_told_where_its_files_are() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "srv/conf/nginx.conf", "");
    write(folder.path(), "etc/nginx/nginx.conf", "");
    write(folder.path(), "home/own.conf", "");
    let root = Root::at(folder.path());
    for (line, main) in [
        ("nginx", "/etc/nginx/nginx.conf"),
        ("nginx -p /srv/", "/srv/conf/nginx.conf"),
        ("nginx -p/srv -c conf/nginx.conf", "/srv/conf/nginx.conf"),
        ("nginx -c own.conf", "/home/own.conf"),
        ("nginx -c /not/there.conf -g daemon off;", "/not/there.conf"),
    ] {
        assert_eq!(nginx_main(&root, &command(line), "/home"), main, "{line}");
    }
}

#[test]
fn haproxy_has_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "etc/haproxy/haproxy.cfg", "backend a\n server s 10.0.0.1:80\n");
    write(folder.path(), "etc/haproxy/conf.d/b.cfg", "backend b\n server s 10.0.0.2:80\n");
    write(folder.path(), "etc/haproxy/conf.d/b.cfg.bak", "backend c\n server s 10.0.0.3:80\n");
    let root = Root::at(folder.path());
    let line = "haproxy -Ws -C /etc/haproxy -f haproxy.cfg -p /run/haproxy.pid -sf 1 2 -- conf.d";
    let read = of_haproxy(&root, &command(line), "/");
    assert_eq!(read.faults, [""; 0]);
    assert_eq!(
        names(&read),
        ["10.0.0.1:80 a/s /etc/haproxy/haproxy.cfg:2", "10.0.0.2:80 b/s /etc/haproxy/conf.d/b.cfg:2"]
    );
}

#[test]
fn envoy_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "etc/envoy.yaml", "admin: {}\n");
    let root = Root::at(folder.path());
    for line in [
        "envoy -c /etc/envoy.yaml",
        "envoy --config-path=envoy.yaml",
        "envoy -l info --config-path envoy.yaml",
    ] {
        let (read, text) = of_envoy(&root, &command(line), "/etc");
        assert_eq!((text.as_deref(), read.faults.len()), (Some("admin: {}\n"), 0), "{line}");
    }
}
