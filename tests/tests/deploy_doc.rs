//! `docs/deploy.md`: its commands for one machine, typed in their order by a shell, with the unit and the program that
//! they install, where a real systemd is process 1.

use anyhow::{Context, Result, ensure};
use rstrace_tests::document::commands;
use rstrace_tests::netns::{Family, Link, Net};
use rstrace_tests::systemd::{self, Machine};

/// What cannot be typed here, by its beginning, and why.
const NOT_TYPED: &[(&str, &str)] = &[
    ("./dev image", "compiles the program that image.rs is given"),
    ("docker ", "no registry can be reached; image.rs builds the image"),
    ("kubectl apply ", "there is no cluster; kubernetes.rs renders and validates"),
    ("kubectl label ", "there is no cluster"),
    ("kubectl delete ", "there is no cluster"),
    ("kubectl -n rstrace ", "there is no cluster; kubernetes.rs asks an agent in a container"),
];

#[test]
fn image_and_unit_are_installed_upgraded_and_removed_as_the_document_says() -> Result<()> {
    let workspace = systemd::workspace()?;
    let document = std::fs::read_to_string(workspace.join("docs/deploy.md"))?;
    let all = commands(&document);
    for (beginning, why) in NOT_TYPED {
        ensure!(all.iter().any(|line| line.starts_with(beginning)), "{beginning} is typed nowhere: {why}");
    }
    let typed: Vec<&str> = all
        .into_iter()
        .filter(|line| !NOT_TYPED.iter().any(|(beginning, _)| line.starts_with(beginning)))
        .collect();
    ensure!(typed.len() >= 15, "{typed:?}");
    // A pipe that breaks must not pass; each line says first what it is.
    let script: String = typed.iter().map(|line| format!("echo '+' {}\n{line}\n", quoted(line))).collect();

    let net = Net::create(Link::Loopback, Family::V4)?;
    let machine = Machine::boot(net.gateway())?;
    let played = machine.types(&script)?;
    ensure!(played.code == Some(0), "{}\n{}", played.stdout, played.stderr);
    for line in &typed {
        ensure!(played.stdout.contains(&format!("+ {line}\n")), "{line} was not reached:\n{}", played.stdout);
    }
    let said = |what: &str| played.stdout.lines().find(|line| line.contains(what)).map(str::to_owned);
    for what in ["process_killed", "ready", "rstrace_upstream_aborts_total{", "rstrace_build_info{"] {
        said(what).with_context(|| format!("nobody said {what}:\n{}", played.stdout))?;
    }
    Ok(())
}

fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', r"'\''"))
}
