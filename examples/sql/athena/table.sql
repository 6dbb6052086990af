-- The table that reports.sql and audit.sql read: Firehose's objects on S3 under the prefix telemetry/!{timestamp:yyyy/MM/dd}/, with the
-- file extension .json, or .json.gz for COMPRESSION=gzip. Replace BUCKET by your bucket, twice, and set the first day of the range.
CREATE EXTERNAL TABLE telemetry (
  `time` string,
  `type` string,
  record string, -- a string in one event, an object in another: read it as text
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
