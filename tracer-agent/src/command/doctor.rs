//! `rstrace doctor`: what this host supports, what is missing, and what is lost without it.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::kernel::{Group, Groups, HookStatus, Kernel, Options, Support};
use crate::output::text::printable;

/// What there is to say.
#[derive(Serialize)]
struct Report {
    kernel: String,
    btf: String,
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

/// Loads everything once, says how that went, and lets it go.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let (kernel, _ring, existing) = Kernel::load(&Options { groups: Groups::all(), ..Options::default() })?;
    let report = report(&kernel, existing.len());
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { human(&report) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn report(kernel: &Kernel, sockets_found: usize) -> Report {
    let Support { kernel: release, btf, .. } = kernel.support.clone();
    Report {
        kernel: release,
        btf: btf.display().to_string(),
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
    let _ = writeln!(text, "types    {} ({} jiffies a second)", report.btf, report.jiffies_per_second);
    let _ = writeln!(text, "sockets  {} open, with their owners", report.sockets_found);
    let _ = writeln!(text);
    for GroupReport { group, supported, gives, costs } in &report.groups {
        let loaded = if *group == Group::Core.name() { "always" } else { "--with" };
        let _ = writeln!(text, "{loaded:<6} {group:<15} {supported:<4} of its hooks: {gives}; costs {costs}");
    }
    let _ = writeln!(text);
    for hook in &report.hooks {
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
    let missing = report.hooks.iter().filter(|h| !h.attached).count();
    let _ = match missing {
        0 => writeln!(text, "everything is attached"),
        n => writeln!(
            text,
            "verdicts can be given; {n} of {} hooks missing, as said above",
            report.hooks.len()
        ),
    };
    text
}
