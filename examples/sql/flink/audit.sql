-- The audit of a fleet, from the table of table.sql. Each statement runs alone. seq numbers the events of one source.instance:
-- a missing number is a lost event, a number that arrives twice is a duplicate (FORMAT.md, Completeness).
--
-- A window (WHERE `time` >= …) begins and ends in the middle of instances: numbers before an instance's first and after its last
-- are unknown, not lost. Use a window longer than the delays of the delay report, and query the end of the window again later.

-- missing: ranges of numbers that did not arrive. reason is that of a declared range that overlaps the missing one. The statement
-- instances has the number of undeclared losses of each instance.
WITH arrived AS (SELECT DISTINCT source.instance AS instance, seq FROM telemetry),
     steps AS (SELECT instance, seq, lag(seq) OVER (PARTITION BY instance ORDER BY seq) AS before FROM arrived),
     gaps AS (SELECT instance, before + 1 AS first_seq, seq - 1 AS last_seq FROM steps WHERE seq - before > 1),
     declared AS (
       SELECT JSON_VALUE(`record`, '$.instance') AS instance, JSON_VALUE(`record`, '$.reason') AS reason,
              CAST(JSON_VALUE(`record`, '$.firstSeq') AS bigint) AS first_seq, CAST(JSON_VALUE(`record`, '$.lastSeq') AS bigint) AS last_seq
       FROM telemetry
       WHERE `type` = 'kinesis-telemetry.dropped'
     )
SELECT g.instance, g.first_seq, g.last_seq, g.last_seq - g.first_seq + 1 AS events, coalesce(max(d.reason), 'undeclared') AS reason
FROM gaps g LEFT JOIN declared d ON d.instance = g.instance AND d.first_seq <= g.last_seq AND d.last_seq >= g.first_seq
GROUP BY g.instance, g.first_seq, g.last_seq
ORDER BY 1, 2;

-- duplicates: numbers that arrived more than once. The copies have the same bytes: keep any.
SELECT source.instance AS instance, seq, count(*) AS copies
FROM telemetry
GROUP BY source.instance, seq
HAVING count(*) > 1
ORDER BY 1, 2;

-- dropped: the losses that the extension declared, by instance and reason.
WITH declared AS (
  SELECT DISTINCT source.instance AS writer, seq, JSON_VALUE(`record`, '$.instance') AS instance, JSON_VALUE(`record`, '$.reason') AS reason,
         CAST(JSON_VALUE(`record`, '$.count') AS bigint) AS events,
         CAST(JSON_VALUE(`record`, '$.firstSeq') AS bigint) AS first_seq, CAST(JSON_VALUE(`record`, '$.lastSeq') AS bigint) AS last_seq
  FROM telemetry
  WHERE `type` = 'kinesis-telemetry.dropped'
)
SELECT instance, reason, sum(events) AS events, min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM declared
GROUP BY instance, reason
ORDER BY 1, 2;

-- instances: the fleet, one row per instance. lost counts the missing numbers that are not declared. ended is true if the last number
-- is an event about the extension itself, as after an orderly shutdown. If ended is false, more numbers may be missing after the last.
WITH numbers AS (
  SELECT source.instance AS instance, min(seq) AS first_seq, max(seq) AS last_seq, count(*) AS events, count(DISTINCT seq) AS arrived,
         max(CASE WHEN `type` IN ('kinesis-telemetry.stats', 'kinesis-telemetry.dropped') THEN seq END) AS last_own
  FROM telemetry
  GROUP BY source.instance
), declared AS (
  SELECT instance, sum(events) AS events
  FROM (
    SELECT DISTINCT source.instance AS writer, seq, JSON_VALUE(`record`, '$.instance') AS instance,
           CAST(JSON_VALUE(`record`, '$.count') AS bigint) AS events
    FROM telemetry
    WHERE `type` = 'kinesis-telemetry.dropped'
  ) d
  GROUP BY instance
)
SELECT n.instance, n.first_seq, n.last_seq, n.events, n.events - n.arrived AS duplicates,
       n.last_seq - n.first_seq + 1 - n.arrived AS missing,
       coalesce(d.events, 0) AS declared,
       n.last_seq - n.first_seq + 1 - n.arrived - coalesce(d.events, 0) AS lost,
       coalesce(n.last_own = n.last_seq, false) AS ended
FROM numbers n LEFT JOIN declared d ON d.instance = n.instance
ORDER BY 1;
