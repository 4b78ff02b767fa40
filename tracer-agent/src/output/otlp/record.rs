//! A verdict as a log record, its attributes named as OpenTelemetry's semantic conventions (1.44) name them; what
//! those have no name for begins with `rstrace.`.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::event::Role;
use crate::output::hub::Item;
use crate::output::view::{CulpritView, Omitted, VerdictView};

/// One request with all of them. They are of one host, whose name each verdict brings along.
pub fn request(items: &[Item]) -> ExportLogsServiceRequest {
    let host = items.iter().find_map(|item| match item {
        Item::Verdict(view) => Some(view.host.as_str()),
        Item::Omitted(_) => None,
    });
    let mut about = Attributes::default();
    about.text("service.name", "rstrace");
    about.text("service.version", env!("CARGO_PKG_VERSION"));
    about.text("host.name", host);
    let scope = InstrumentationScope {
        name: "rstrace".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let records = items.iter().map(|item| match item {
        Item::Verdict(view) => verdict(view, now),
        Item::Omitted(omitted) => missing(omitted, now),
    });
    let scope_logs = ScopeLogs { scope: Some(scope), log_records: records.collect(), ..ScopeLogs::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes: about.0, ..Resource::default() }),
            scope_logs: vec![scope_logs],
            ..ResourceLogs::default()
        }],
    }
}

fn verdict(view: &VerdictView, now: u64) -> LogRecord {
    let mut with = Attributes::default();
    network(&mut with, view);
    with.text("error.type", view.cause.name());
    judged(&mut with, view);
    owner(&mut with, view);
    if let Some(culprit) = &view.culprit {
        blamed(&mut with, culprit);
    }
    figures(&mut with, view);
    LogRecord {
        time_unix_nano: u64::try_from(view.time.as_nanosecond()).unwrap_or(0),
        body: Some(AnyValue { value: Some(Value::StringValue(view.summary.clone())) }),
        ..record("rstrace.verdict", now, with)
    }
}

fn missing(omitted: &Omitted, now: u64) -> LogRecord {
    let mut with = Attributes::default();
    with.number("rstrace.omitted.count", Some(omitted.count));
    LogRecord {
        time_unix_nano: now,
        body: Some(AnyValue { value: Some(Value::StringValue(omitted.why.clone())) }),
        ..record("rstrace.omitted", now, with)
    }
}

fn record(event_name: &str, now: u64, with: Attributes) -> LogRecord {
    LogRecord {
        observed_time_unix_nano: now,
        severity_number: SeverityNumber::Warn.into(),
        severity_text: "WARN".to_owned(),
        event_name: event_name.to_owned(),
        attributes: with.0,
        ..LogRecord::default()
    }
}

fn network(with: &mut Attributes, view: &VerdictView) {
    let address = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<SocketAddr>().ok());
    let (local, peer) = (address(&view.local), address(&view.peer));
    let upstream = view.upstream.as_deref().unwrap_or_default();
    with.text(
        "network.transport",
        match () {
            () if upstream.starts_with("unix:") => "unix",
            () if upstream.starts_with("dns:") => "udp",
            () => "tcp",
        },
    );
    with.text("network.type", local.or(peer).map(|a| if a.is_ipv4() { "ipv4" } else { "ipv6" }));
    with.address("network.local", local);
    with.address("network.peer", peer);
    let (client, server) = match view.role {
        Role::Client => (local, peer),
        Role::Server => (peer, local),
    };
    with.address("client", client);
    with.address("server", server);
}

fn judged(with: &mut Attributes, view: &VerdictView) {
    with.text(
        "rstrace.role",
        match view.role {
            Role::Client => "client",
            Role::Server => "server",
        },
    );
    with.text("rstrace.upstream", view.upstream.as_deref());
    with.text("rstrace.upstream.name", view.upstream_name.as_deref());
    with.text("rstrace.upstream.pod", view.upstream_pod.as_deref());
    with.text("rstrace.upstream.endpoint", view.upstream_endpoint.as_deref());
    with.text("rstrace.listener", view.listener.as_deref());
    with.text("rstrace.scope", view.scope.as_str());
    with.number("rstrace.netns", Some(view.netns));
    with.text("rstrace.by", view.by.name());
    with.text("rstrace.impact", view.impact.name());
    with.text("rstrace.confidence", view.confidence.name());
    with.text("rstrace.how", view.how.name());
    with.text("rstrace.reset.reason", view.rst_reason.as_deref());
    with.list("rstrace.alternatives", view.alternatives.iter().map(|cause| cause.name().to_owned()));
    with.list("rstrace.evidence", view.evidence.iter().cloned());
    with.text("rstrace.join.key", view.join.key.as_deref());
    with.number("rstrace.join.end_seq", view.join.end_seq);
}

fn owner(with: &mut Attributes, view: &VerdictView) {
    let Some(owner) = &view.owner else { return };
    with.number("process.pid", Some(owner.pid));
    with.text("process.executable.name", owner.comm.as_str());
    with.text("process.linux.cgroup", owner.cgroup.as_deref());
    with.text("container.id", owner.container.as_deref());
    let Some(pod) = &owner.pod else { return };
    with.text("k8s.pod.uid", pod.uid.as_str());
    with.text("k8s.pod.name", pod.name.as_deref());
    with.text("k8s.namespace.name", pod.namespace.as_deref());
    with.text("k8s.container.name", pod.container.as_deref());
}

fn blamed(with: &mut Attributes, culprit: &CulpritView) {
    with.number("rstrace.culprit.pid", Some(culprit.pid));
    with.text("rstrace.culprit.comm", culprit.comm.as_str());
    if let Some(exit) = &culprit.exit {
        with.number("rstrace.culprit.exit.code", exit.code);
        with.text("rstrace.culprit.exit.signal", exit.signal.as_deref());
        with.put("rstrace.culprit.exit.oom", Value::BoolValue(exit.oom));
    }
    if let Some(killer) = &culprit.killed_by {
        with.number("rstrace.culprit.killed_by.pid", Some(killer.pid));
        with.text("rstrace.culprit.killed_by.comm", killer.comm.as_str());
    }
}

fn figures(with: &mut Attributes, view: &VerdictView) {
    let connection = &view.connection;
    // A cookie of all 64 bits would be no signed number, and is a name anyway.
    with.text("rstrace.connection.cookie", connection.cookie.to_string().as_str());
    with.real("rstrace.connection.age_ms", connection.age_ms);
    with.number("rstrace.connection.bytes_sent", connection.bytes_sent);
    with.number("rstrace.connection.bytes_received", Some(connection.bytes_received));
    with.real("rstrace.connection.since_request_ms", connection.since_request_ms);
    if let Some(reused) = connection.reused {
        with.put("rstrace.connection.reused", Value::BoolValue(reused));
    }
    with.number("rstrace.connection.retransmits", Some(connection.retransmits));
    with.number("rstrace.connection.srtt_us", connection.srtt_us);
}

/// What is not known is left out: an attribute has no null.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text<'a>(&mut self, key: &str, text: impl Into<Option<&'a str>>) {
        if let Some(text) = text.into() {
            self.put(key, Value::StringValue(text.to_owned()));
        }
    }

    fn number<N: TryInto<i64>>(&mut self, key: &str, number: Option<N>) {
        if let Some(number) = number.and_then(|number| number.try_into().ok()) {
            self.put(key, Value::IntValue(number));
        }
    }

    fn real(&mut self, key: &str, number: Option<f64>) {
        if let Some(number) = number {
            self.put(key, Value::DoubleValue(number));
        }
    }

    fn list(&mut self, key: &str, texts: impl Iterator<Item = String>) {
        let values = texts.map(|text| AnyValue { value: Some(Value::StringValue(text)) });
        self.put(key, Value::ArrayValue(ArrayValue { values: values.collect() }));
    }

    fn address(&mut self, role: &str, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.text(&format!("{role}.address"), address.ip().to_string().as_str());
            self.number(&format!("{role}.port"), Some(address.port()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixture;

    /// Every attribute of the only record, as text.
    fn told(item: Item) -> (LogRecord, Vec<String>) {
        let mut request = request(&[item]);
        let record = request.resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0);
        let spelled = record.attributes.iter().map(|a| {
            let value = a.value.as_ref().and_then(|v| v.value.as_ref());
            let value = match value {
                Some(Value::StringValue(text)) => text.clone(),
                Some(Value::IntValue(number)) => number.to_string(),
                Some(Value::DoubleValue(number)) => number.to_string(),
                Some(Value::BoolValue(yes)) => yes.to_string(),
                Some(Value::ArrayValue(list)) => format!("{} values", list.values.len()),
                _ => "?".to_owned(),
            };
            format!("{}={value}", a.key)
        });
        let spelled = spelled.collect();
        (record, spelled)
    }

    #[test]
    fn a_verdict_has_the_names_of_the_conventions() {
        let (record, attributes) = told(Item::Verdict(fixture::shared(&fixture::oom_killed())));
        assert_eq!((record.event_name.as_str(), record.severity_number), ("rstrace.verdict", 13));
        assert_eq!(record.time_unix_nano, 1_795_176_187_412_345_678);
        for expected in [
            "network.transport=tcp",
            "network.type=ipv4",
            "network.local.address=10.0.1.2",
            "network.local.port=43210",
            "server.address=10.0.3.7",
            "server.port=9000",
            "client.address=10.0.1.2",
            "error.type=oom_killed",
            "process.pid=812",
            "process.executable.name=nginx",
            "process.linux.cgroup=/system.slice/nginx.service",
            "rstrace.by=upstream",
            "rstrace.impact=request_lost",
            "rstrace.confidence=proven",
            "rstrace.culprit.comm=php-fpm",
            "rstrace.culprit.exit.signal=SIGKILL",
            "rstrace.culprit.exit.oom=true",
            "rstrace.connection.cookie=9182",
            "rstrace.connection.reused=true",
            "rstrace.join.key=10.0.1.2:43210-10.0.3.7:9000",
            "rstrace.join.end_seq=3141592653",
            "rstrace.evidence=1 values",
        ] {
            assert!(attributes.iter().any(|a| a == expected), "no {expected} in {attributes:#?}");
        }
        // What is not known has no attribute.
        assert!(!attributes.iter().any(|a| a.starts_with("container.id")), "{attributes:#?}");
        assert!(!attributes.iter().any(|a| a.starts_with("rstrace.reset.reason")), "{attributes:#?}");
    }

    #[test]
    fn of_an_accepted_socket_the_own_address_is_the_servers() {
        let (_, attributes) = told(Item::Verdict(fixture::shared(&fixture::accepted())));
        for expected in ["server.port=43210", "client.port=9000", "rstrace.role=server"] {
            assert!(attributes.iter().any(|a| a == expected), "no {expected} in {attributes:#?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_too() {
        let (record, attributes) = told(Item::Omitted(Omitted::new(7, "the reader was too slow")));
        assert_eq!(record.event_name, "rstrace.omitted");
        assert_eq!(attributes, ["rstrace.omitted.count=7"]);
    }
}
