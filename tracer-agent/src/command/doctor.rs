//! `rstrace doctor`: what this host supports, what is missing, and what is lost without it; and what a running agent
//! says of what it saw.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::enrich::gateways::{self, GatewayReport};
use crate::kernel::privileges::{Held, NEEDS, Need};
use crate::kernel::{Group, Groups, HookStatus, Kernel, LOCKED_DOWN, Options, Support};
use crate::output::audit::AuditView;
use crate::output::socket::Client;
use crate::output::text::printable;

/// An agent answers at once, or is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Files of a gateway that are named.
const FILES_SHOWN: usize = 20;

/// What there is to say.
#[derive(Serialize)]
struct Report {
    kernel: String,
    btf: String,
    /// Whether it runs under `lockdown=confidentiality`.
    is_confidential: bool,
    capabilities: Vec<CapabilityReport>,
    audit: Audit,
    /// Gateways that run here, and what their configuration says of their upstreams.
    gateways: Vec<GatewayReport>,
    /// Not there where nothing can be loaded.
    #[serde(flatten)]
    loaded: Option<Loaded>,
}

/// A capability, and whether this process has it.
#[derive(Serialize)]
struct CapabilityReport {
    capability: &'static str,
    /// `yes`, `no`, or `CAP_SYS_ADMIN` where that stands in for it.
    held: &'static str,
    required: bool,
    wanted_for: &'static str,
}

/// What a running agent says of itself.
#[derive(Serialize)]
#[serde(untagged)]
enum Audit {
    Agent(Box<AuditView>),
    /// Why there is none.
    None {
        why: String,
    },
}

/// What came of loading everything.
#[derive(Serialize)]
struct Loaded {
    jiffies_per_second: u32,
    sockets_found: usize,
    groups: Vec<GroupReport>,
    hooks: Vec<HookReport>,
    missing_members: Vec<&'static str>,
}

/// A group of hooks, each of which was tried.
#[derive(Serialize)]
struct GroupReport {
    group: &'static str,
    /// `all`, `some` or `none` of its hooks can be attached on this kernel.
    supported: &'static str,
    gives: &'static str,
    costs: &'static str,
}

#[derive(Serialize)]
struct HookReport {
    hook: &'static str,
    groups: Vec<&'static str>,
    attached: bool,
    how: Option<&'static str>,
    gives: &'static str,
    /// What is lost, if it is not attached.
    without: Option<&'static str>,
    reasons: Vec<String>,
}

/// Loads everything once, says how that went, and lets it go. What it may and may not do is said in either case.
pub(super) async fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    // Asked before anything is loaded, as an agent that starts finds it.
    let Support { kernel, btf, is_confidential, .. } = Support::probe();
    let capabilities = NEEDS.iter().map(capability).collect();
    let btf = btf.display().to_string();
    let audit = audit(&args.socket).await;
    let gateways = gateways::look_once().gateways;
    let mut report = Report { kernel, btf, is_confidential, capabilities, audit, gateways, loaded: None };
    let tried = Kernel::load(&Options { groups: Groups::all(), ..Options::default() });
    let tried = tried.map(|(kernel, _ring, found)| report.loaded = Some(loaded(&kernel, found.sockets)));
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { human(&report) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        done => done?,
    }
    Ok(tried?)
}

/// Whatever keeps the agent from answering is said, and is no failure of this command.
async fn audit(socket: &Path) -> Audit {
    let asked = async { Client::connect(socket).await?.audit().await };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(audit)) => Audit::Agent(Box::new(audit)),
        Ok(Err(error)) => Audit::None { why: error.to_string() },
        Err(_) => Audit::None { why: format!("the agent does not answer within {} s", PATIENCE.as_secs()) },
    }
}

fn capability(need: &Need) -> CapabilityReport {
    let held = match Held::now() {
        Some(held) if held.is_stood_in_for(need) => "CAP_SYS_ADMIN",
        Some(held) if held.suffices(need) => "yes",
        _ => "no",
    };
    let Need { capability, required, wanted_for, .. } = *need;
    CapabilityReport { capability, held, required, wanted_for }
}

fn loaded(kernel: &Kernel, sockets_found: usize) -> Loaded {
    Loaded {
        jiffies_per_second: kernel.hz,
        sockets_found,
        groups: [Group::Core].into_iter().chain(Group::OPTIONAL).map(|g| group(g, &kernel.hooks)).collect(),
        hooks: kernel.hooks.iter().map(hook).collect(),
        missing_members: kernel.layout.missing.clone(),
    }
}

fn group(group: Group, hooks: &[HookStatus]) -> GroupReport {
    let hooks: Vec<_> = hooks.iter().filter(|status| status.hook.groups.contains(&group)).collect();
    let attached = hooks.iter().filter(|status| status.attached.is_some()).count();
    let supported = match attached {
        0 => "none",
        n if n < hooks.len() => "some",
        _ => "all",
    };
    GroupReport { group: group.name(), supported, gives: group.gives(), costs: group.costs() }
}

fn hook(status: &HookStatus) -> HookReport {
    HookReport {
        hook: status.hook.name,
        groups: status.hook.groups.iter().map(|group| group.name()).collect(),
        attached: status.attached.is_some(),
        how: status.attached.map(crate::kernel::Way::name),
        gives: status.hook.gives,
        without: status.attached.is_none().then_some(status.hook.without),
        reasons: status.reasons.clone(),
    }
}

fn human(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "kernel   {}", report.kernel);
    let _ = writeln!(text, "types    {}", report.btf);
    if report.is_confidential {
        let _ = writeln!(text, "lockdown {LOCKED_DOWN}");
    }
    let _ = writeln!(text);
    for CapabilityReport { capability, held, required, wanted_for } in &report.capabilities {
        let required = if *required { "required" } else { "optional" };
        let _ = writeln!(text, "{capability:<22} {required}  {held:<4} {wanted_for}");
    }
    if let Some(loaded) = &report.loaded {
        describe(&mut text, loaded);
    }
    describe_gateways(&mut text, &report.gateways);
    let _ = match &report.audit {
        Audit::Agent(audit) => write!(text, "\n{}", audit.words()),
        Audit::None { why } => {
            writeln!(text, "\naudit    {}: nothing to hold the kernel's own counters against", printable(why))
        }
    };
    text
}

fn describe_gateways(text: &mut String, gateways: &[GatewayReport]) {
    let _ = writeln!(text);
    if gateways.is_empty() {
        let _ = writeln!(
            text,
            "gateways none runs here that gives upstreams their names (nginx, HAProxy, Envoy)"
        );
    }
    for gateway in gateways {
        let GatewayReport { gateway, pid, netns, files, servers, by_host_name, left_out, faults } = gateway;
        let by_host_name = match by_host_name {
            0 => String::new(),
            n => format!(", {n} more by a host name alone"),
        };
        let left_out = match left_out {
            0 => String::new(),
            n => format!(", {n} entries or files left out"),
        };
        let _ = writeln!(
            text,
            "gateway  {}[{pid}] in netns {netns}: {servers} upstream servers{by_host_name}{left_out}",
            gateway.comm()
        );
        let more = files.len().saturating_sub(FILES_SHOWN);
        for file in files.iter().take(FILES_SHOWN) {
            let _ = writeln!(text, "         read {}", printable(file));
        }
        if more > 0 {
            let _ = writeln!(text, "         read {more} more files: --json names them");
        }
        for fault in faults {
            let _ = writeln!(text, "         NOT read: {}", printable(fault));
        }
    }
}

fn describe(text: &mut String, loaded: &Loaded) {
    let _ = writeln!(text);
    let _ = writeln!(text, "ticks    {} jiffies a second", loaded.jiffies_per_second);
    let _ = writeln!(text, "sockets  {} open, with their owners", loaded.sockets_found);
    let _ = writeln!(text);
    for GroupReport { group, supported, gives, costs } in &loaded.groups {
        let when = if *group == Group::Core.name() { "always" } else { "--with" };
        let _ = writeln!(text, "{when:<6} {group:<15} {supported:<4} of its hooks: {gives}; costs {costs}");
    }
    let _ = writeln!(text);
    for hook in &loaded.hooks {
        let state = if hook.attached { "attached" } else { "missing" };
        let _ = writeln!(text, "{:<22} {state:<9} {:<7} {}", hook.hook, hook.how.unwrap_or("-"), hook.gives);
        if let Some(lost) = hook.without {
            let _ = writeln!(text, "{:<22} without it: {lost}", "");
            for reason in &hook.reasons {
                let _ = writeln!(text, "{:<22} why: {}", "", printable(reason.trim()));
            }
        }
    }
    let _ = writeln!(text);
    let missing = loaded.hooks.iter().filter(|h| !h.attached).count();
    let _ = match missing {
        0 => writeln!(text, "everything is attached"),
        n => writeln!(
            text,
            "verdicts can be given; {n} of {} hooks missing, as said above",
            loaded.hooks.len()
        ),
    };
}
