use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;
use crate::output::filter::ProcessFilter;
use crate::verdict::Cause;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

fn watch(line: &str) -> WatchArgs {
    match parse(line).unwrap() {
        Command::Watch(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_agent_has_the_defaults_of_the_contract() {
    let Command::Agent(args) = parse("rstrace agent").unwrap() else { panic!("no agent") };
    assert_eq!(args.listen.to_string(), "127.0.0.1:19435");
    assert_eq!(args.socket.to_str(), Some("/run/rstrace/rstrace.sock"));
    let Command::Agent(args) = parse("rstrace agent --listen :9100 --watch --json --all").unwrap() else {
        panic!("no agent")
    };
    assert_eq!(args.listen.to_string(), "0.0.0.0:9100");
    assert!(args.watch && args.json && args.all);
    assert_eq!(args.web, None);
    let Command::Agent(args) =
        parse("rstrace agent --web 10.0.1.2:19436 --web-token-file /etc/rstrace/token").unwrap()
    else {
        panic!("no agent")
    };
    assert_eq!(args.web.unwrap().to_string(), "10.0.1.2:19436");
    assert!(parse("rstrace agent --web-token-file /etc/rstrace/token").is_err());
}

#[test]
fn watch_takes_lists_and_repeated_options() {
    let args = watch(
        "rstrace watch --all --json --upstream 10.0.0.0/8,[::1]:80 --upstream 10.0.3.7 --by upstream \
         --cause oom_killed,no_listener --impact request_lost --netns 4026531840 --netns /run/netns/a \
         --process php-fpm,4242 --container 3f2a --pod shop/api --gateway nginx --count 3 --duration 1m30s --since 15m",
    );
    assert_eq!(args.filter.netns, [Netns::Inum(4_026_531_840), Netns::Path("/run/netns/a".into())]);
    let minute = Some(SignedDuration::from_mins(1));
    assert_eq!(args.limits(None), Limits { count: Some(3), duration: Some(Duration::from_secs(90)) });
    assert_eq!(args.limits(minute), Limits { count: Some(3), duration: Some(Duration::from_secs(60)) });
    let filter = args.filter.filter(vec![1, 2]);
    assert_eq!(filter.upstream.len(), 3);
    assert_eq!(filter.cause, [Cause::OomKilled, Cause::NoListener]);
    assert_eq!(filter.netns, [1, 2]);
    assert_eq!(filter.process, [ProcessFilter::Comm("php-fpm".to_owned()), ProcessFilter::Pid(4242)]);
    assert_eq!(filter.container, ["3f2a"]);
    assert_eq!(filter.pod, ["shop/api"]);
    assert_eq!(args.filter.since, Some(When::Ago(Duration::from_mins(15))));
    assert!(filter.all && args.json);
}

#[test]
fn groups_of_hooks_are_a_list() {
    let args = watch("rstrace watch --with unix,dns --with connect-errors");
    assert_eq!(args.with.groups(), Groups::all());
    assert_eq!(watch("rstrace watch").with.groups(), Groups::default());
    let Command::Agent(args) = parse("rstrace agent --with unix").unwrap() else { panic!("no agent") };
    assert_eq!(args.with.groups().to_string(), "unix");
}

#[test]
fn global_options_stand_anywhere() {
    let cli = Cli::try_parse_from(["rstrace", "watch", "--log", "debug", "--debug-programs"]).unwrap();
    assert_eq!(cli.global.log, LogLevel(Some(tracing::Level::DEBUG)));
    assert!(cli.global.debug_programs);
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    for (line, hint) in [
        ("rstrace watch --upstream web-1", "`web-1` is no upstream"),
        ("rstrace watch --upstream unix:", "unix:/run/api.sock"),
        ("rstrace watch --with tls", "`tls` is no group of hooks: unix, dns, connect-errors and all are"),
        ("rstrace watch --upstream 10.0.0.0/40", "has at most 32 bits"),
        ("rstrace watch --cause bad_luck", "`bad_luck` is no cause: one of no_listener"),
        ("rstrace watch --by me", "one of upstream, gateway, client"),
        ("rstrace watch --netns web", "/run/netns/web"),
        ("rstrace watch --netns 0", "an inode number"),
        ("rstrace watch --count 0", "--count"),
        ("rstrace watch --duration 10", "such as 30s"),
        ("rstrace watch --duration -10s", "such as 30s"),
        ("rstrace watch --duration 0s", "such as 30s"),
        ("rstrace watch --since yesterday", "such as 15m (ago), 12:03"),
        ("rstrace watch --process a-name-longer-than-15", "15 bytes"),
        ("rstrace watch --process 0", "its pid (4242)"),
        ("rstrace watch --container /x", "how it begins"),
        ("rstrace watch --pod /api", "how that begins"),
        ("rstrace watch --pod shop/api/x", "how that begins"),
        ("rstrace agent --history many", "--history"),
        ("rstrace watch --gateway a-name-longer-than-15", "15 bytes"),
        ("rstrace agent --listen localhost", "such as 127.0.0.1:19435"),
        ("rstrace agent --listen :70000", "such as 127.0.0.1:19435"),
        ("rstrace agent --json", "--watch"),
        ("rstrace watch --log loud", "one of error, warn"),
        ("rstrace agent --frobnicate", "--frobnicate"),
        ("rstrace bottom", "unrecognized subcommand"),
        ("rstrace top --once --json", "cannot be used with"),
        ("rstrace", "Usage"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(hint), "{line}: {error}");
    }
}

#[test]
fn help_lists_only_what_people_type() {
    let error = parse("rstrace --help").unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::DisplayHelp, 0));
    let help = error.to_string();
    for command in ["agent", "watch", "top", "record", "replay", "report", "explain", "doctor", "demo"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(!help.contains("demo-part"), "{help}");
}

#[test]
fn every_command_in_the_documents_can_be_typed() {
    let documents = [
        ("README.md", include_str!("../../README.md"), 5),
        ("docs/runbook.md", include_str!("../../docs/runbook.md"), 5),
        ("docs/deploy.md", include_str!("../../docs/deploy.md"), 3),
        ("docs/monitoring.md", include_str!("../../docs/monitoring.md"), 1),
    ];
    for (name, text, least) in documents {
        let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
        let commands = blocks.flat_map(str::lines).filter(|line| line.starts_with("rstrace "));
        let mut typed = 0;
        for command in commands {
            // A comment, or what goes on in the shell.
            let words =
                command.split(" #").next().unwrap_or_default().split(['|', '>']).next().unwrap_or_default();
            let parsed = Cli::try_parse_from(words.split_whitespace());
            assert!(parsed.is_ok(), "{name}: {command}: {}", parsed.unwrap_err());
            typed += 1;
        }
        assert!(typed >= least, "{name}: {typed} commands found");
    }
}
