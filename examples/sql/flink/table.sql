-- The table that reports.sql and audit.sql read: Firehose's objects in a folder or a bucket (s3://BUCKET/telemetry/, with Flink's S3
-- file system). Flink reads plain and .gz objects, and .zst objects with com.github.luben:zstd-jni on the class path. Each line
-- is an event, so that objects of FORMAT=json need Firehose's AppendDelimiterToRecord and no compression.
SET 'execution.runtime-mode' = 'batch';

CREATE TABLE telemetry (
  `time` TIMESTAMP_LTZ(3),
  `type` STRING,
  `record` STRING, -- a string in one event, an object in another: read it as text
  `requestId` STRING,
  `seq` BIGINT,
  `source` ROW<`function` STRING, `version` STRING, `account` STRING, `region` STRING, `instance` STRING, `tags` MAP<STRING, STRING>>,
  `object_time` TIMESTAMP_LTZ(3) NOT NULL METADATA FROM 'file.modification-time'
) WITH (
  'connector' = 'filesystem',
  'path' = 'telemetry/',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);
