-- Reports from the table of table.sql. Each statement runs alone. For a window add
-- WHERE `time` >= TO_TIMESTAMP_LTZ('2026-11-24', 'yyyy-MM-dd').
-- On a stream (execution.runtime-mode 'streaming') remove the ORDER BY: Flink then updates the rows as events arrive.

-- invocations: one row per invocation. If init_ms is set, it was a cold start.
SELECT `time`, source.`function` AS function_name, `requestId` AS request_id,
       JSON_VALUE(`record`, '$.status') AS status,
       JSON_VALUE(`record`, '$.errorType') AS error_type,
       CAST(JSON_VALUE(`record`, '$.metrics.durationMs') AS double) AS duration_ms,
       CAST(JSON_VALUE(`record`, '$.metrics.billedDurationMs') AS bigint) AS billed_ms,
       CAST(JSON_VALUE(`record`, '$.metrics.memorySizeMB') AS bigint) AS memory_mb,
       CAST(JSON_VALUE(`record`, '$.metrics.maxMemoryUsedMB') AS bigint) AS max_memory_mb,
       CAST(coalesce(JSON_VALUE(`record`, '$.metrics.initDurationMs'), JSON_VALUE(`record`, '$.metrics.restoreDurationMs')) AS double) AS init_ms
FROM telemetry
WHERE `type` = 'platform.report'
ORDER BY 1, 3;

-- errors: failed invocations and inits, and lines of the level ERROR or above.
WITH lines AS (
  SELECT `time`, source.`function` AS function_name, `requestId` AS request_id, `type`, `record` AS line,
         JSON_VALUE(`record`, '$.status') AS status, JSON_VALUE(`record`, '$.errorType') AS error_type,
         upper(JSON_VALUE(`record`, '$.level')) AS level -- NULL if the line is not JSON
  FROM telemetry
  WHERE `type` IN ('function', 'extension', 'platform.report', 'platform.initReport', 'platform.restoreReport')
)
SELECT `time`, function_name, request_id, `type`,
       CASE WHEN `type` LIKE 'platform.%' THEN coalesce(error_type, status) ELSE line END AS error
FROM lines
WHERE (`type` LIKE 'platform.%' AND status <> 'success')
   OR (`type` NOT LIKE 'platform.%' AND level IN ('ERROR', 'FATAL', 'CRITICAL'))
   OR (`type` NOT LIKE 'platform.%' AND (line LIKE '[ERROR]%' OR line LIKE '%' || CHR(9) || 'ERROR' || CHR(9) || '%')) -- text of Python and Node.js
ORDER BY 1, 3, 5;

-- cold_starts: the number of cold starts, and the time of init or restore, by function.
WITH reports AS (
  SELECT source.`function` AS function_name,
         CAST(coalesce(JSON_VALUE(`record`, '$.metrics.initDurationMs'), JSON_VALUE(`record`, '$.metrics.restoreDurationMs')) AS double) AS init_ms
  FROM telemetry
  WHERE `type` = 'platform.report'
)
SELECT function_name, count(*) AS invocations, count(init_ms) AS cold_starts,
       PERCENTILE(init_ms, 0.5) AS init_ms_p50, max(init_ms) AS init_ms_max
FROM reports
GROUP BY function_name
ORDER BY function_name;

-- cost: Lambda's price and the number of events, by function. Prices are of us-east-1, x86_64, first tier: set yours.
WITH events AS (
  SELECT source.`function` AS function_name, `type` = 'platform.report' AS is_report,
         CASE WHEN `type` = 'platform.report' THEN CAST(JSON_VALUE(`record`, '$.metrics.billedDurationMs') AS double) / 1000
           * CAST(JSON_VALUE(`record`, '$.metrics.memorySizeMB') AS double) / 1024 END AS gb_seconds
  FROM telemetry
)
SELECT function_name, COUNT(*) FILTER (WHERE is_report) AS invocations, coalesce(sum(gb_seconds), 0) AS gb_seconds,
       COUNT(*) FILTER (WHERE is_report) * 0.20E0 / 1000000 + coalesce(sum(gb_seconds), 0) * 0.0000166667E0 AS usd,
       count(*) AS events
FROM events
GROUP BY function_name
ORDER BY function_name;

-- delay: seconds from an event's emission until its object was on S3. It includes MAX_DELAY, Kinesis and Firehose's buffering interval.
WITH delays AS (
  SELECT source.`function` AS function_name,
         CAST(TIMESTAMPDIFF(SECOND, `time`, object_time) AS double) AS seconds
  FROM telemetry
)
SELECT function_name, count(*) AS events, PERCENTILE(seconds, 0.5) AS seconds_p50, PERCENTILE(seconds, 0.95) AS seconds_p95, max(seconds) AS seconds_max
FROM delays
GROUP BY function_name
ORDER BY function_name;
