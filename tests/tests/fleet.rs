//! Two hosts tell of one connection: two namespaces, an agent in each that sees nothing of the other, and ClickHouse's
//! embedded engine with the table and the query of `deploy/clickhouse`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstrace_tests::agent::{Agent, binary};
use rstrace_tests::clickhouse;
use rstrace_tests::netns::{Family, Link, Namespace, require_root};
use rstrace_tests::process::run;
use rstrace_tests::scene::{Plan, Scene, Watcher, play};
use serde_json::{Value, json};

const VERDICT: Duration = Duration::from_secs(5);
/// Seconds that the query over 3 million rows may take; two idle cores need some six.
const JOIN_S: f64 = 120.0;

#[test]
fn what_the_gateway_infers_the_upstreams_agent_proves() -> Result<()> {
    fleet(Link::Veth, |scene, hosts| {
        // A FIN, a RST, a RST amid an answer: by whichever way it ends, both say the same number.
        for path in ["/fin", "/reset"] {
            scene.demand(path, 502)?;
            hosts.told(scene, path)?;
        }
        let (said, seen) = killed(scene, hosts)?;
        let row = hosts.row_of(&said, &seen)?;
        ensure!(row["match"] == 1, "matched by {}", row["match"]);
        Ok(())
    })
}

#[test]
fn translated_addresses_do_not_keep_them_apart() -> Result<()> {
    fleet(Link::Routed, |scene, hosts| {
        let router = scene.net().router().context("no router")?;
        run(router.command("nft")?.args(["add table ip fleet"]))?;
        run(router
            .command("nft")?
            .args(["add chain ip fleet out { type nat hook postrouting priority 100; }; \
             add rule ip fleet out oifname up0 masquerade"]))?;
        let (said, seen) = killed(scene, hosts)?;
        ensure!(said["join"]["key"] != seen["join"]["key"], "not translated: {}", said["join"]);
        let row = hosts.row_of(&said, &seen)?;
        ensure!(row["match"] == 2, "matched by {}", row["match"]);
        Ok(())
    })
}

/// Made-up lines, since no fault makes these at will.
#[test]
fn what_may_be_another_connection_proves_nothing() -> Result<()> {
    let line = |role: &str, second: u32, key: &str, end_seq: Option<u32>| {
        let host = if role == "client" { "gw-1" } else { "up-1" };
        let [cause, confidence] = match role {
            "client" => ["closed_without_response", "inferred"],
            _ => ["process_killed", "proven"],
        };
        json!({
            "kind": "verdict", "time": format!("2026-11-20T12:03:{second:02}Z"), "host": host, "role": role,
            "upstream": "10.0.3.7:9000", "listener": "10.0.3.7:9000", "local": "10.0.1.2:1", "peer": "10.0.1.3:2",
            "cause": cause, "confidence": confidence, "by": "upstream", "impact": "request_lost",
            "connection": {"cookie": second}, "join": {"key": key, "end_seq": end_seq}, "summary": "",
        })
    };
    let lines = [
        line("client", 1, "a", Some(1)),
        line("server", 2, "a", Some(2)),
        line("client", 11, "b", None),
        line("server", 12, "b", Some(3)),
        // Too far apart, and an address that every host has.
        line("client", 21, "c", Some(4)),
        line("server", 28, "c", Some(4)),
        line("client", 41, "127.0.0.1:1-127.0.0.1:2", None),
        line("server", 41, "127.0.0.1:1-127.0.0.1:2", None),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let rows = clickhouse::fleet(&["join", "2026-11-20 12:00:00", "2026-11-20 13:00:00"], &input)?;
    let found: Vec<_> = rows.iter().map(|row| (row["match"].as_u64(), row["learned"].as_u64())).collect();
    let expected = [(4, 0), (3, 1), (0, 0), (0, 0)].map(|(by, learned)| (Some(by), Some(learned)));
    ensure!(found == expected, "{found:?} in {rows:#?}");
    Ok(())
}

#[test]
fn three_million_rows_are_joined_within_reason() -> Result<()> {
    let found = clickhouse::fleet(&["speed", "3000000"], "")?.pop().context("no figures")?;
    eprintln!("3,000,000 rows: {found}");
    ensure!(found["all"] == 1_500_000 && found["learned"] == 1_500_000, "{found}");
    ensure!(found["join_s"].as_f64().is_some_and(|seconds| seconds < JOIN_S), "{found}");
    Ok(())
}

/// The agents of the two hosts.
struct Hosts {
    gateway: Agent,
    upstream: Agent,
}

impl Hosts {
    /// What both say of the next connection, with one number at its end.
    fn told(&mut self, scene: &Scene, what: &str) -> Result<(Value, Value)> {
        let upstream = scene.upstream();
        let said = self.gateway.wait_for(what, VERDICT, |line| {
            line["kind"] == "verdict" && line["role"] == "client" && line["upstream"] == upstream.as_str()
        })?;
        let seen = self.upstream.wait_for(what, VERDICT, |line| {
            line["kind"] == "verdict" && line["role"] == "server" && line["listener"] == upstream.as_str()
        })?;
        self.gateway.forget();
        self.upstream.forget();
        let (said, seen) = (said.json, seen.json);
        let [number, other] = [&said, &seen].map(|line| &line["join"]["end_seq"]);
        ensure!(number.is_u64() && number == other, "{what}: {number} and {other}\n{said}\n{seen}");
        ensure!(said["confidence"] == "inferred", "{what}: the gateway cannot know that: {said}");
        Ok((said, seen))
    }

    /// What the query makes of the two.
    fn row_of(&self, said: &Value, seen: &Value) -> Result<Value> {
        let (from, until) = ("2020-01-01 00:00:00", "2100-01-01 00:00:00");
        let rows = clickhouse::fleet(&["join", from, until], &format!("{said}\n{seen}\n"))?;
        ensure!(rows.len() == 1, "{} rows of one connection: {rows:?}", rows.len());
        let row = rows[0].clone();
        for (key, value) in [
            ("gateway", "gw-1"),
            ("upstream_host", "up-1"),
            ("said", "closed_without_response"),
            ("by", "upstream"),
            ("cause", "process_killed"),
            ("confidence", "proven"),
            ("impact", "request_lost"),
        ] {
            ensure!(row[key] == value, "{key} is {}, not {value}: {row}\n{said}\n{seen}", row[key]);
        }
        Ok(row)
    }
}

/// Two hosts around a real gateway and a real upstream.
fn fleet(link: Link, story: impl Fn(&mut Scene, &mut Hosts) -> Result<()>) -> Result<()> {
    require_root()?;
    let plan = Plan { watcher: Watcher::Nobody, ..Plan::default() };
    play(link, Family::V4, &plan, |scene| {
        let gateway = agent_of("gw-1", scene.net().gateway())?;
        let upstream = agent_of("up-1", scene.net().upstream())?;
        story(scene, &mut Hosts { gateway, upstream })
    })
}

/// An agent that sees one namespace, and takes this name for the host's.
fn agent_of(host: &str, namespace: &Namespace) -> Result<Agent> {
    let mut command = Command::new("unshare");
    let script = "echo \"$0\" >/proc/sys/kernel/hostname && exec \"$@\"";
    command.args(["--uts", "sh", "-c", script, host]).arg(binary()?);
    Agent::watch_as(command, &["--vantage", &namespace.path().to_string_lossy()])
}

/// The upstream is killed, by a process of its own host, while it owes an answer.
fn killed(scene: &mut Scene, hosts: &mut Hosts) -> Result<(Value, Value)> {
    let request = scene.start_request("/hang", &[])?;
    scene.server()?.wait_for("/hang")?;
    let victim = scene.server()?.pid().to_string();
    run(scene.net().upstream().command("sh")?.args(["-c", "kill -KILL \"$1\"", "sh", &victim]))?;
    let outcome = request.finish(Duration::from_secs(5))?;
    ensure!(outcome.status == 502, "the request ended with {outcome:?}");
    hosts.told(scene, "the kill")
}
