-- Feeds rstrace_events from the table otel_logs, which the collector's exporter `clickhouse` makes and fills. Run it after
-- schema.sql, once the collector has made its table.
CREATE MATERIALIZED VIEW IF NOT EXISTS rstrace_from_otel TO rstrace_events AS
SELECT
    Timestamp AS time,
    ResourceAttributes['host.name'] AS host,
    LogAttributes['rstrace.role'] AS role,
    LogAttributes['rstrace.scope'] AS scope,
    if(role = 'server', LogAttributes['rstrace.listener'], LogAttributes['rstrace.upstream']) AS address,
    toUInt16OrZero(LogAttributes['network.peer.port']) AS peer_port,
    toUInt16OrZero(LogAttributes['network.local.port']) AS local_port,
    LogAttributes['rstrace.by'] AS by,
    LogAttributes['error.type'] AS cause,
    LogAttributes['rstrace.impact'] AS impact,
    LogAttributes['rstrace.confidence'] AS confidence,
    toUInt64OrZero(LogAttributes['rstrace.connection.cookie']) AS cookie,
    LogAttributes['rstrace.join.key'] AS join_key,
    toUInt32OrNull(LogAttributes['rstrace.join.end_seq']) AS end_seq,
    Body AS summary,
    toJSONString(LogAttributes) AS event
FROM otel_logs
WHERE ServiceName = 'rstrace' AND LogAttributes['rstrace.role'] != '';
