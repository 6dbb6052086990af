-- The table that reports.sql and audit.sql read: every object that Firehose wrote, local or on S3 (`INSTALL httpfs; LOAD httpfs;`).
-- Plain objects (.json), gzip (.json.gz) and zstd (.json.zst) are read. Put your folder in place of telemetry/, here and in the delay
-- report. For more than one statement CREATE OR REPLACE TABLE reads the objects once.
CREATE OR REPLACE VIEW telemetry AS
SELECT *
FROM read_json('telemetry/**/*.json*', filename = true, format = 'newline_delimited', columns = {
  time: 'TIMESTAMPTZ', type: 'VARCHAR', record: 'JSON', "requestId": 'VARCHAR', seq: 'BIGINT',
  source: 'STRUCT("function" VARCHAR, version VARCHAR, account VARCHAR, region VARCHAR, instance VARCHAR, tags MAP(VARCHAR, VARCHAR))'
});
-- Objects of FORMAT=json that are compressed have nothing between their events: format = 'unstructured' reads them.
