-- The table that reports.sql and audit.sql read: Firehose's objects, local or on S3 (`INSTALL httpfs; LOAD httpfs;`), plain (.json),
-- gzip (.json.gz) and zstd (.json.zst). Replace telemetry/ by your folder, here and in the delay report. To run several statements, use
-- CREATE OR REPLACE TABLE, which reads the objects once.
CREATE OR REPLACE VIEW telemetry AS
SELECT *
FROM read_json('telemetry/**/*.json*', filename = true, format = 'newline_delimited', columns = {
  time: 'TIMESTAMPTZ', type: 'VARCHAR', record: 'JSON', "requestId": 'VARCHAR', seq: 'BIGINT',
  source: 'STRUCT("function" VARCHAR, version VARCHAR, account VARCHAR, region VARCHAR, instance VARCHAR, tags MAP(VARCHAR, VARCHAR))'
});
-- Compressed objects of FORMAT=json have no separator between events: format = 'unstructured' reads them.
