-- What the agents on the upstreams' hosts know of the connections that gateways lost.
--
--     clickhouse-client --param_from='2026-11-20 12:00:00' --param_until='2026-11-20 13:00:00' --queries-file join.sql
--
-- A row is a verdict of a gateway. Where the gateway could only infer the cause and the agent on the other host saw it,
-- `cause` is that agent's and `confidence` is `proven`; `said` is what the gateway itself had said.
--
-- Two events tell of one connection if they are at most 5 s apart (as far as the clocks of two hosts may be) and
--   1. addresses and the sequence number at the end are the same; or
--   2. the number and the upstream's port are: addresses were translated on the way; or
--   3. the addresses are: one side has no number, or both ended it at once. Then two numbers that differ prove nothing.
WITH
    gateways AS
    (
        SELECT * FROM rstrace_events
        WHERE role = 'client' AND time BETWEEN {from:DateTime64(9, 'UTC')} AND {until:DateTime64(9, 'UTC')}
    ),
    ends AS
    (
        SELECT
            *,
            -- Under which an end is looked for: its addresses, unless every host has such, and its number.
            arrayJoin(arrayFilter(mark -> mark != 0, [
                if(join_key = '' OR join_key LIKE '127.%' OR join_key LIKE '[::1]%', 0, cityHash64(join_key)),
                if(end_seq IS NULL, 0, cityHash64('number', assumeNotNull(end_seq)))
            ])) AS mark
        FROM rstrace_events
        WHERE time BETWEEN {from:DateTime64(9, 'UTC')} - INTERVAL 5 SECOND
            AND {until:DateTime64(9, 'UTC')} + INTERVAL 5 SECOND
    ),
    found AS
    (
        SELECT
            g.host AS gateway, g.time AS at, g.cookie AS cookie,
            u.host AS host, u.by AS by, u.cause AS cause, u.confidence AS confidence, u.summary AS summary,
            multiIf(
                g.join_key = u.join_key AND g.end_seq = u.end_seq, 1,
                g.end_seq = u.end_seq AND g.peer_port = u.local_port, 2,
                g.join_key = u.join_key AND (g.end_seq IS NULL OR u.end_seq IS NULL), 3,
                g.join_key = u.join_key AND g.join_key != '', 4,
                0) AS match,
            dateDiff('millisecond', g.time, u.time) AS apart_ms
        FROM (SELECT * FROM ends WHERE role = 'client') AS g
        INNER JOIN (SELECT * FROM ends WHERE role = 'server') AS u ON g.mark = u.mark
        WHERE g.host != u.host AND match > 0 AND abs(apart_ms) <= 5000
        ORDER BY match, abs(apart_ms)
        LIMIT 1 BY gateway, at, cookie
    )
SELECT
    g.time AS time,
    g.host AS gateway,
    g.address AS upstream,
    g.impact AS impact,
    g.cause AS said,
    g.confidence = 'inferred' AND f.confidence = 'proven' AND f.match BETWEEN 1 AND 3 AS learned,
    if(learned, f.by, g.by) AS by,
    if(learned, f.cause, g.cause) AS cause,
    if(learned, 'proven', g.confidence) AS confidence,
    f.host AS upstream_host,
    f.match AS match,
    f.apart_ms AS apart_ms,
    if(learned, f.summary, g.summary) AS summary
FROM gateways AS g
LEFT ANY JOIN found AS f ON g.host = f.gateway AND g.time = f.at AND g.cookie = f.cookie
ORDER BY time, gateway;
