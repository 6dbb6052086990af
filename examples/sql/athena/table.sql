-- The table that reports.sql and audit.sql read: what Firehose wrote to S3 under the prefix telemetry/!{timestamp:yyyy/MM/dd}/, with the
-- file extension .json, or .json.gz for COMPRESSION=gzip. Put your bucket in place of BUCKET, twice, and the first day in the range.
CREATE EXTERNAL TABLE telemetry (
  `time` string,
  `type` string,
  record string, -- text or an object, event by event: as text
  requestid string,
  seq bigint,
  source struct<`function`:string,version:string,account:string,region:string,instance:string,tags:map<string,string>>
)
PARTITIONED BY (dt string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://BUCKET/telemetry/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy/MM/dd',
  'projection.dt.range' = '2026/01/01,NOW',
  'storage.location.template' = 's3://BUCKET/telemetry/${dt}'
);
