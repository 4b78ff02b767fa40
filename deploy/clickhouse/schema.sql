-- The verdicts of a fleet. Run once: clickhouse-client --multiquery < schema.sql
--
-- Lines of `rstrace watch --json`, or of a journal, go into rstrace_lines as they are:
--     INSERT INTO rstrace_lines FORMAT LineAsString

-- A row is a verdict. What most questions ask for has a column; the line has all the rest.
CREATE TABLE IF NOT EXISTS rstrace_events
(
    time       DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    host       LowCardinality(String),
    -- client: a gateway's leg to an upstream; server: the accepted end of one.
    role       LowCardinality(String),
    scope      LowCardinality(String),
    -- What the gateway dialled (role client), or where the connection was accepted (role server).
    address    LowCardinality(String),
    peer_port  UInt16,
    local_port UInt16,
    by         LowCardinality(String),
    cause      LowCardinality(String),
    impact     LowCardinality(String),
    confidence LowCardinality(String),
    cookie     UInt64,
    -- What both ends of a connection have in common; '' and NULL where it is not known.
    join_key   String,
    end_seq    Nullable(UInt32),
    summary    String CODEC(ZSTD),
    event      String CODEC(ZSTD)
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (role, time, host)
TTL toDateTime(time) + INTERVAL 30 DAY;

-- Keeps nothing itself.
CREATE TABLE IF NOT EXISTS rstrace_lines (line String) ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS rstrace_from_lines TO rstrace_events AS
WITH JSONExtractString(line, 'local') AS local, JSONExtractString(line, 'peer') AS peer
SELECT
    parseDateTime64BestEffort(JSONExtractString(line, 'time'), 9, 'UTC') AS time,
    JSONExtractString(line, 'host') AS host,
    JSONExtractString(line, 'role') AS role,
    JSONExtractString(line, 'scope') AS scope,
    if(role = 'server', JSONExtractString(line, 'listener'), JSONExtractString(line, 'upstream')) AS address,
    toUInt16OrZero(splitByChar(':', peer)[-1]) AS peer_port,
    toUInt16OrZero(splitByChar(':', local)[-1]) AS local_port,
    JSONExtractString(line, 'by') AS by,
    JSONExtractString(line, 'cause') AS cause,
    JSONExtractString(line, 'impact') AS impact,
    JSONExtractString(line, 'confidence') AS confidence,
    JSONExtractUInt(line, 'connection', 'cookie') AS cookie,
    JSONExtractString(line, 'join', 'key') AS join_key,
    JSONExtract(line, 'join', 'end_seq', 'Nullable(UInt32)') AS end_seq,
    JSONExtractString(line, 'summary') AS summary,
    line AS event
FROM rstrace_lines
WHERE JSONExtractString(line, 'kind') = 'verdict';
