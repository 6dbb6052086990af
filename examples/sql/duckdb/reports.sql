-- Reports from the table of table.sql. Each statement runs alone. For a window add: WHERE time >= '2026-11-24'.

-- invocations: one row per invocation. If init_ms is set, it was a cold start.
SELECT time, source."function" AS function_name, "requestId" AS request_id,
       record->>'$.status' AS status,
       record->>'$.errorType' AS error_type,
       CAST(record->>'$.metrics.durationMs' AS DOUBLE) AS duration_ms,
       CAST(record->>'$.metrics.billedDurationMs' AS BIGINT) AS billed_ms,
       CAST(record->>'$.metrics.memorySizeMB' AS BIGINT) AS memory_mb,
       CAST(record->>'$.metrics.maxMemoryUsedMB' AS BIGINT) AS max_memory_mb,
       CAST(coalesce(record->>'$.metrics.initDurationMs', record->>'$.metrics.restoreDurationMs') AS DOUBLE) AS init_ms
FROM telemetry
WHERE type = 'platform.report'
ORDER BY time, request_id;

-- errors: failed invocations and inits, and lines of the level ERROR or above.
WITH lines AS (
  SELECT time, source."function" AS function_name, "requestId" AS request_id, type, record->>'$' AS line
  FROM telemetry
  WHERE type IN ('function', 'extension', 'platform.report', 'platform.initReport', 'platform.restoreReport')
), fields AS (
  SELECT *, CASE WHEN json_valid(line) THEN CAST(line AS JSON) END AS fields FROM lines -- NULL if the line is not JSON
)
SELECT time, function_name, request_id, type,
       CASE WHEN type LIKE 'platform.%' THEN coalesce(fields->>'$.errorType', fields->>'$.status') ELSE line END AS error
FROM fields
WHERE (type LIKE 'platform.%' AND fields->>'$.status' <> 'success')
   OR (type NOT LIKE 'platform.%' AND upper(fields->>'$.level') IN ('ERROR', 'FATAL', 'CRITICAL'))
   OR (type NOT LIKE 'platform.%' AND (line LIKE '[ERROR]%' OR line LIKE '%' || chr(9) || 'ERROR' || chr(9) || '%')) -- text of Python and Node.js
ORDER BY time, request_id, error;

-- cold_starts: the number of cold starts, and the time of init or restore, by function.
WITH reports AS (
  SELECT source."function" AS function_name,
         CAST(coalesce(record->>'$.metrics.initDurationMs', record->>'$.metrics.restoreDurationMs') AS DOUBLE) AS init_ms
  FROM telemetry
  WHERE type = 'platform.report'
)
SELECT function_name, count(*) AS invocations, count(init_ms) AS cold_starts,
       quantile_cont(init_ms, 0.5) AS init_ms_p50, max(init_ms) AS init_ms_max
FROM reports
GROUP BY function_name
ORDER BY function_name;

-- cost: Lambda's price and the number of events, by function. Prices are of us-east-1, x86_64, first tier: set yours.
SELECT source."function" AS function_name,
       count(*) FILTER (type = 'platform.report') AS invocations,
       coalesce(sum(CAST(record->>'$.metrics.billedDurationMs' AS DOUBLE) / 1000 * CAST(record->>'$.metrics.memorySizeMB' AS DOUBLE) / 1024)
         FILTER (type = 'platform.report'), 0) AS gb_seconds,
       invocations * 0.20 / 1000000 + gb_seconds * 0.0000166667 AS usd,
       count(*) AS events
FROM telemetry
GROUP BY source."function"
ORDER BY function_name;

-- delay: seconds from an event's emission until its object was on S3. It includes MAX_DELAY, Kinesis and Firehose's buffering interval.
WITH objects AS (SELECT filename, last_modified FROM read_blob('telemetry/**/*.json*')),
     delays AS (
       SELECT source."function" AS function_name, epoch(last_modified) - epoch(time) AS seconds
       FROM telemetry JOIN objects USING (filename)
     )
SELECT function_name, count(*) AS events, quantile_cont(seconds, 0.5) AS seconds_p50, quantile_cont(seconds, 0.95) AS seconds_p95, max(seconds) AS seconds_max
FROM delays
GROUP BY function_name
ORDER BY function_name;
