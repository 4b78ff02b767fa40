//! Every metric: its name, labels and meaning. The text of `docs/metrics.md` is held against this list.

use prometheus::proto::MetricType;

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The word of the text format, and the library's type.
    pub const fn spelled(self) -> (&'static str, MetricType) {
        match self {
            Self::Counter => ("counter", MetricType::COUNTER),
            Self::Gauge => ("gauge", MetricType::GAUGE),
            Self::Histogram => ("histogram", MetricType::HISTOGRAM),
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! definitions {
    ($($variant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        /// The metrics, by what they count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name {
            $($variant,)+
        }

        /// In the order of the documentation.
        pub const DEFINITIONS: &[Definition] = &[$(
            Definition { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },
        )+];

        impl Name {
            /// In the same order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            #[must_use]
            pub const fn definition(self) -> &'static Definition {
                &DEFINITIONS[self as usize]
            }
        }
    };
}

definitions! {
    UpstreamConnections = Counter "rstrace_upstream_connections_total" ["upstream", "scope", "outcome"]
        "Attempts to connect to an upstream, by what became of them.";
    UpstreamResets = Counter "rstrace_upstream_resets_total" ["upstream", "scope", "direction", "phase"]
        "TCP resets on connections to an upstream, by direction and by how far the connection had come.";
    UpstreamFins = Counter "rstrace_upstream_fins_total" ["upstream", "scope", "direction", "phase"]
        "First FINs on connections to an upstream, by direction and by how far the connection had come.";
    UpstreamAborts = Counter "rstrace_upstream_aborts_total" ["upstream", "scope", "by", "cause", "impact"]
        "Connections to an upstream that failed or may have cost a request, by who ended them, why and what it did.";
    UpstreamIdleLimit = Gauge "rstrace_upstream_idle_limit_seconds" ["upstream", "scope"]
        "Idle age at which an upstream closes kept connections, where it repeats.";
    UpstreamsExpired = Counter "rstrace_upstreams_expired_total" []
        "Upstreams whose series ended since nothing happened to them and places were wanted.";
    ListenerAborts = Counter "rstrace_listener_aborts_total" ["listener", "scope", "cause", "impact"]
        "Accepted connections that failed or may have cost a request, by why and what it did.";
    AbortRequestAge = Histogram "rstrace_abort_request_age_seconds" ["by", "cause"]
        "Age of the request when its connection to the upstream was aborted.";
    IdleCloseAge = Histogram "rstrace_idle_close_age_seconds" []
        "Time since the last request when an idle connection was closed.";
    ProcessExits = Counter "rstrace_process_exits_total" ["comm", "reason"]
        "Processes that owned sockets and ended, by how.";
    EventsReceived = Counter "rstrace_events_received_total" ["kind"]
        "Events of the kernel programs that the agent received and understood.";
    EventsLost = Counter "rstrace_events_lost_total" ["stage"]
        "Events that never became known to the agent, by where they were lost.";
    EventsDropped = Counter "rstrace_events_dropped_total" ["sink"]
        "Verdicts that a reader was too slow for, or that the journal had no room for.";
    Netstat = Counter "rstrace_netstat_total" ["counter", "source"]
        "TCP events as the kernel counted them and as rstrace saw them, since rstrace met their network namespaces.";
    NetstatGap = Gauge "rstrace_netstat_gap" ["counter", "scope", "why"]
        "Events that the kernel counted and rstrace did not see, by what explains that.";
    TableEntries = Gauge "rstrace_table_entries" ["table"]
        "Entries in a table.";
    TableCapacity = Gauge "rstrace_table_capacity" ["table"]
        "Entries that a table can hold.";
    TableEvicted = Counter "rstrace_table_evicted_total" ["table"]
        "Entries that a full table had to give up or could not take.";
    NamesFailures = Counter "rstrace_names_failures_total" ["source"]
        "Answers that a source of names, such as an API server, failed to give.";
    LabelOverflow = Counter "rstrace_label_overflow_total" ["label"]
        "Label values that were counted as `other` since the label has as many values as it may have.";
    HookAttached = Gauge "rstrace_hook_attached" ["hook", "how"]
        "1 if the hook is attached, 0 if the agent has to do without it.";
    ProgramRuns = Counter "rstrace_program_runs_total" ["program"]
        "Runs of a kernel program, where the kernel counts them (kernel.bpf_stats_enabled).";
    ProgramSeconds = Counter "rstrace_program_seconds_total" ["program"]
        "Time spent in a kernel program, where the kernel measures it (kernel.bpf_stats_enabled).";
    BuildInfo = Gauge "rstrace_build_info" ["version"]
        "Always 1; the version is the label.";
    ProcessResident = Gauge "process_resident_memory_bytes" []
        "Resident memory of the agent.";
    ProcessCpu = Counter "process_cpu_seconds_total" []
        "Processor time that the agent used, user and system.";
    ProcessFds = Gauge "process_open_fds" []
        "Open file descriptors of the agent.";
    ProcessStart = Gauge "process_start_time_seconds" []
        "Unix time at which the agent started.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for definition in DEFINITIONS {
            let Definition { name, kind, labels, help } = definition;
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(name.starts_with("rstrace_") || name.starts_with("process_"), "{name}");
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
            assert!(!labels.iter().any(|l| name.contains(&format!("_by_{l}"))), "{name}");
            if *kind == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
        }
    }

    /// The rows `| `name` | kind | labels | … |` of the documentation.
    #[test]
    fn the_documentation_has_a_row_for_each_and_no_other() {
        let text = include_str!("../../../../docs/metrics.md");
        let documented: Vec<(String, String, String)> = text
            .lines()
            .filter(|line| line.starts_with("| `rstrace_") || line.starts_with("| `process_"))
            .map(|line| {
                let mut cells = line.trim_matches('|').split('|').map(str::trim);
                let mut cell = || cells.next().unwrap().replace('`', "");
                (cell(), cell(), cell())
            })
            .collect();
        let defined: Vec<_> = DEFINITIONS
            .iter()
            .map(|d| (d.name.to_owned(), format!("{:?}", d.kind).to_lowercase(), d.labels.join(", ")))
            .collect();
        assert_eq!(documented, defined);
    }
}
